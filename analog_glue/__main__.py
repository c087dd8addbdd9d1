"""`python -m analog_glue …` is `analog-glue …`; `accelerate launch -m analog_glue train …` needs this form."""

import sys

from analog_glue.cli import main

sys.exit(main())
