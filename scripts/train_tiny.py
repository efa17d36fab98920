"""Train the embedded models `tiny` and `tiny-clip`; see --help."""

import sys

from embedded.tiny import main

if __name__ == "__main__":
    sys.exit(main())
