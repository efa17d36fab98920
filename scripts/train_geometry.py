"""Train the embedded estimator `tiny-geometry`; see --help."""

import sys

from embedded.geometry import main

if __name__ == "__main__":
    sys.exit(main())
