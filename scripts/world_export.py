"""Make a prior that the package loads of what train_models.py wrote; see --help."""

import sys

from embedded.multiview_export import main

if __name__ == "__main__":
    sys.exit(main())
