"""Trains: `python train.py --config rexnet_1.0x.yaml`; `--help` tells the rest."""

import sys

from rexnet.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
