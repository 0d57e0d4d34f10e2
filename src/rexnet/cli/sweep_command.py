"""`rexnet sweep`."""

import argparse
import csv
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rexnet.cli.arguments import CONFIG_HELP, Commands, add_overrides, as_path, positive

if TYPE_CHECKING:
    from rexnet.studies.sweep import Sweep

TRIALS = 20
SHOWN = 20  # rows of the printed table


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "sweep",
        help="try values of configuration keys",
        description="Train with several values of keys: a range A..B or log:A..B, or a list A,B,C. Trials are ordinary "
        "runs. The same command resumes a sweep, and shares its trials with other processes that run it.",
        epilog="example: rexnet sweep --config quickstart.yaml optimizer.lr=log:0.01..0.2 loss.label_smoothing=0,0.1",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="CONFIG", required=True, help=CONFIG_HELP)
    parser.add_argument("--trials", metavar="N", type=positive, help=f"default: {TRIALS}, or the whole grid")
    parser.add_argument("--sampler", choices=("tpe", "random", "grid"), help="default: tpe, or grid for lists only")
    parser.add_argument("--seeds", metavar="N", type=positive, default=1, help="runs per trial; their mean counts")
    parser.add_argument("--storage", metavar="URL", help="database shared by machines (default: sweep.db in --out)")
    parser.add_argument("--out", metavar="FOLDER", type=as_path, help="default: runs/sweep-NAME, by the config's name")
    add_overrides(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the trials, and shows the finished ones even after an interruption."""
    from rexnet.config.schema import TrainerConfig
    from rexnet.errors import ConfigError
    from rexnet.studies.study_storage import run_trials
    from rexnet.studies.sweep import TRIED, Sweep, open_sweep, run_trial
    from rexnet.studies.sweep_space import parse_space

    space = parse_space(options.config, options.overrides)
    combinations = len(space.grid())
    sampler = options.sampler or ("grid" if combinations else "tpe")
    if sampler == "grid" and not combinations:
        raise ConfigError("--sampler: grid needs lists, such as 0.01,0.1, and no ranges")
    if options.seeds > 1 and "seed" in space.distributions:
        raise ConfigError("--seeds: gives each trial several seeds; leave out seed=")
    trials = options.trials or (combinations if sampler == "grid" else TRIALS)
    if sampler == "grid":
        trials = min(trials, combinations)
    folder = options.out or TrainerConfig().runs_dir / f"sweep-{space.config.name}"
    sweep = Sweep(options.config, space, folder, options.seeds)
    study = open_sweep(sweep, sampler, options.storage)
    try:
        run_trials(study, lambda trial: run_trial(trial, sweep), trials, TRIED)
    except KeyboardInterrupt:
        print("\nThe same command resumes the sweep and this trial", file=sys.stderr)
        raise
    finally:
        tried = study.get_trials(deepcopy=False, states=TRIED)
        _show(sweep, sorted(tried, key=lambda trial: -(trial.value or -1.0)))
    return 0


def _show(sweep: "Sweep", trials: Sequence[Any]) -> None:
    """Prints the best of the Optuna trials, sorted by top-1, and writes `sweep.csv` and the figure."""
    from rexnet.metrics.statistics import mean_and_deviation
    from rexnet.studies.sweep import draw_sweep
    from rexnet.system.atomic_files import atomic_write
    from rexnet.system.terminal import align

    if not trials:
        return
    header = ["top1", "deviation", *sweep.space.distributions, "seconds", "run", "error"]
    rows = [header]
    for trial in trials:
        top1 = trial.user_attrs.get("top1", [])
        row = [f"{trial.value:.2f}" if top1 else "-", f"{mean_and_deviation(top1)[1]:.2f}" if len(top1) > 1 else ""]
        row += [each.partition("=")[2] for each in sweep.space.overrides(trial.params)]
        runs = " ".join(map(str, sweep.runs(trial)))
        rows.append([*row, f"{trial.user_attrs['seconds']:.0f}", runs, trial.user_attrs.get("error", "")])
    with atomic_write(sweep.folder / "sweep.csv") as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    shown = [column for column in zip(*rows[: SHOWN + 1], strict=True) if any(column[1:])]
    print("", *align(list(zip(*shown, strict=True))), sep="\n")
    if finished := [trial for trial in trials if trial.value is not None]:
        draw_sweep(sweep.space, finished, sweep.folder / "sweep")
        print(f"\nBest         rexnet {shlex.join(sweep.arguments(finished[0].params))}")
    print(f"Sweep        {sweep.folder} ({len(trials)} trials)")
