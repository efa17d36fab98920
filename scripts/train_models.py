"""Train the multi-view prior of the packed world; see --help."""

import sys

from embedded.multiview_training import main

if __name__ == "__main__":
    sys.exit(main())
