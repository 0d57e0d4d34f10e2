"""Measures: `python evaluate.py runs/NAME`; `--help` tells the rest."""

import sys

from rexnet.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
