"""Runs `rexnet evaluate`, for example `python evaluate.py runs/NAME`; see `--help`."""

import sys

from rexnet.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
