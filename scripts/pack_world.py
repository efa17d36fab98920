"""Pack real objects for the embedded models into one file; see --help."""

import sys

from embedded.pack import main

if __name__ == "__main__":
    sys.exit(main())
