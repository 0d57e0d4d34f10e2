"""`rexnet ray`."""

import argparse

from rexnet.cli.arguments import CONFIG_HELP, Commands, add_overrides, count, positive


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "ray",
        help="train on a Ray cluster",
        description="Train with Ray Train, on the cluster of RAY_ADDRESS or on this machine. The same command starts "
        "or resumes the run.",
        epilog="example: rexnet ray --config rexnet_1.0x.yaml --workers 16 data.root=/data/imagenet "
        "trainer.run_name=first",
    )
    parser.add_argument("--config", metavar="CONFIG", required=True, help=CONFIG_HELP)
    parser.add_argument("--workers", metavar="N", type=positive, required=True, help="number of processes, one per GPU")
    parser.add_argument("--min-workers", metavar="N", type=positive, help="fewest processes, if nodes are lost")
    parser.add_argument("--max-failures", metavar="N", type=count, default=10, help="restarts by Ray (default: 10)")
    add_overrides(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Trains, then writes the report."""
    from rexnet.config import load_config
    from rexnet.engines.ray_plugins import require_ray
    from rexnet.errors import ConfigError

    least = options.min_workers or options.workers
    if least > options.workers:
        raise ConfigError(f"--min-workers: {least} is more than --workers {options.workers}")
    config = load_config(options.config, options.overrides)
    require_ray()
    from rexnet.cli.train_command import report_run
    from rexnet.engines.ray_train import Workers, train_on_ray

    folder = train_on_ray(config, Workers(least, options.workers), options.max_failures)
    if config.trainer.report:
        report_run(folder)
    return 0
