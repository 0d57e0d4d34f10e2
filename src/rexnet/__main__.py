"""Runs `python -m rexnet`, the same as the command `rexnet`."""

import sys

from rexnet.cli import main

if __name__ == "__main__":
    sys.exit(main())
