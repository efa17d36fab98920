"""Measure the embedded models; see --help."""

import sys

from embedded.evaluation import main

if __name__ == "__main__":
    sys.exit(main())
