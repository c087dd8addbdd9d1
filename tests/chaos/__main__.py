"""Kill commands, fill their disk, let them go on, and compare: `make chaos`, or a short round of it.

python -m tests.chaos --folder outputs/chaos              # 200 kills and 20 full disks; killed itself, it goes on
python -m tests.chaos --folder /tmp/chaos --short
"""

import sys

from tests.chaos.rounds import main

sys.exit(main())
