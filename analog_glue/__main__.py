"""`python -m analog_glue …` is `analog-glue …`; `accelerate launch -m analog_glue train …` needs this form."""

import sys

from analog_glue.cli.main import main

if __name__ == "__main__":  # not in the processes of a sweep, which import this module, too
    sys.exit(main())
