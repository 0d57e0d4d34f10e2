"""Runs `rexnet train`, for example `python train.py --config rexnet_1.0x.yaml`; see `--help`."""

import sys

from rexnet.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
