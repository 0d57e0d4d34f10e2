"""`rexnet sweep`."""

import argparse
import csv
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rexnet.cli.arguments import CONFIG_HELP, Commands, add_overrides, as_path, positive

if TYPE_CHECKING:
    from optuna import Study

    from rexnet.studies.sweep import Sweep, Tried

TRIALS = 20
SHOWN = 20  # rows of the table in the terminal


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "sweep",
        help="try values of configuration keys",
        description="Train with several values of configuration keys: A..B is a range, log:A..B the same on a "
        "logarithmic scale, and A,B,C a list. Each trial is an ordinary run. The same command resumes a sweep, and "
        "shares its trials with other processes that run it at the same time.",
        epilog="example: rexnet sweep --config quickstart.yaml optimizer.lr=log:0.01..0.2 loss.label_smoothing=0,0.1",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="CONFIG", required=True, help=CONFIG_HELP)
    parser.add_argument(
        "--trials", metavar="N", type=positive, help=f"default: {TRIALS}, or all combinations if there are lists only"
    )
    parser.add_argument("--sampler", choices=("tpe", "random", "grid"), help="default: tpe, or grid for lists only")
    parser.add_argument("--seeds", metavar="N", type=positive, default=1, help="runs per trial, whose mean counts")
    parser.add_argument("--storage", metavar="URL", help="database that machines share (default: sweep.db in --out)")
    parser.add_argument("--out", metavar="FOLDER", type=as_path, help="default: runs/sweep-NAME, of the config's name")
    add_overrides(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the trials, and shows those that have finished also if they are interrupted."""
    from rexnet.config.schema import TrainerConfig
    from rexnet.errors import ConfigError
    from rexnet.studies.sweep import InterruptedSweepError, Sweep, open_sweep, run_sweep
    from rexnet.studies.sweep_space import parse_space

    space = parse_space(options.config, options.overrides)
    sampler = options.sampler or ("grid" if space.is_grid else "tpe")
    if sampler == "grid" and not space.is_grid:
        raise ConfigError("--sampler: grid needs lists, such as 0.01,0.1, and no ranges")
    if options.seeds > 1 and "seed" in space.distributions:
        raise ConfigError("--seeds: gives each trial several seeds; leave out seed=")
    trials = options.trials or TRIALS
    if sampler == "grid":
        trials = min(options.trials or len(space.grid()), len(space.grid()))
    folder = options.out or TrainerConfig().runs_dir / f"sweep-{space.config.name}"
    sweep = Sweep(options.config, space, folder, options.seeds)
    study = open_sweep(sweep, sampler, options.storage)
    code = 0
    try:
        run_sweep(study, sweep, trials)
    except (InterruptedSweepError, KeyboardInterrupt) as error:
        code = error.code if isinstance(error, InterruptedSweepError) else 130
        print("\nInterrupted; the same command resumes the sweep and this trial", file=sys.stderr)
    finally:
        _show(sweep, study)
    return code


def _show(sweep: "Sweep", study: "Study") -> None:
    """Prints the best trials and writes `sweep.csv` and the figure."""
    from rexnet.studies.sweep import draw_sweep, read_trials
    from rexnet.system.atomic_files import atomic_write
    from rexnet.system.terminal import align

    tried = read_trials(study)
    if not tried:
        return
    header = ["trial", "top1", "deviation", *sweep.space.distributions, "seconds", "run", "error"]
    rows = [dict(zip(header, _cells(sweep, each), strict=True)) for each in tried]
    with atomic_write(sweep.folder / "sweep.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
    empty = {name for name in ("deviation", "error") if not any(row[name] for row in rows)}
    shown = [name for name in header if name not in empty]
    print("", *align([shown, *([row[name] for name in shown] for row in rows[:SHOWN])]), sep="\n")
    if len(rows) > SHOWN:
        print(f"and {len(rows) - SHOWN} more in {sweep.folder / 'sweep.csv'}")
    if finished := [each for each in tried if each.top1]:
        draw_sweep(sweep.space, finished, sweep.folder / "sweep")
        print(f"\nBest         rexnet {shlex.join(sweep.arguments(finished[0].values))}")
    print(f"Sweep        {sweep.folder}")


def _cells(sweep: "Sweep", tried: "Tried") -> Iterator[str]:
    from rexnet.metrics.statistics import mean_and_deviation

    mean, deviation = mean_and_deviation(tried.top1) if tried.top1 else (0.0, 0.0)
    yield f"{tried.number}"
    yield f"{mean:.2f}" if tried.top1 else "-"
    yield f"{deviation:.2f}" if len(tried.top1) > 1 else ""
    yield from (each.partition("=")[2] for each in sweep.space.overrides(tried.values))
    yield f"{tried.seconds:.0f}"
    yield " ".join(map(str, sweep.runs(tried.number)))
    yield tried.error
