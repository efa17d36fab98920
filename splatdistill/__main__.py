"""python -m splatdistill."""

import sys

from splatdistill.cli import main

sys.exit(main())
