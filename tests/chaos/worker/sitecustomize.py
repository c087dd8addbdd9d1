"""Python imports this at its start where the folder is on its path: processes that a command starts get the plan, too."""

import json
import os

if "CHAOS_PLAN" in os.environ:
    from tests.chaos.operations import VARIABLE, Plan, install

    install(Plan(**json.loads(os.environ[VARIABLE])))
