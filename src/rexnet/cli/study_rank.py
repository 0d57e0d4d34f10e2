"""`rexnet study rank`."""

import argparse
from pathlib import Path

from rexnet.cli.arguments import Commands, as_path, count, positive


def add_parser(studies: Commands) -> None:
    """Adds the study."""
    parser = studies.add_parser(
        "rank",
        help="rank of random layers by width ratio and nonlinearity (Figure 1)",
        description="Compute the rank of the outputs of random layers. The same command resumes a study that was "
        "interrupted.",
        epilog="example: rexnet study rank --out studies/rank --workers 2",
    )
    parser.add_argument("--out", metavar="FOLDER", type=as_path, default=Path("studies/rank"))
    parser.add_argument("--workers", metavar="N", type=positive, default=1, help="threads (default: 1)")
    parser.add_argument("--draws", metavar="N", type=positive, default=1000, help="networks a point (default: 1000)")
    parser.add_argument("--seed", metavar="N", type=count, default=0)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Computes the study."""
    import torch

    from rexnet.studies.rank import RankAssumptions, study_rank

    study_rank(options.out, RankAssumptions(options.seed, options.draws), options.workers, torch.device("cpu"))
    print(f"Study        {options.out}")
    return 0
