"""`python -m evomerge.cli`: the same as `evomerge`."""

import sys

from evomerge.cli import main

if __name__ == "__main__":
    sys.exit(main())
