"""`python -m mim3d`."""

import sys

from mim3d.cli import main

if __name__ == "__main__":
    sys.exit(main())
