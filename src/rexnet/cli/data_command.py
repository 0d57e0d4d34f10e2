"""`rexnet data check|split|show|cache|speed`: what concerns the images alone."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rexnet.cli.arguments import Commands, count

if TYPE_CHECKING:
    from rexnet.config import Config


def add_parser(commands: Commands) -> None:
    """Adds the group of commands to the parser."""
    group = commands.add_parser("data", help="check a data set, divide it, look at it, cache it, measure its loading")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    _add_check(actions)
    _add_split(actions)
    _add_show(actions)
    _add_cache(actions)
    _add_speed(actions)


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a file, or the name of one in configs/")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="values that win over the file")


def _add_check(actions: Commands) -> None:
    parser = actions.add_parser(
        "check",
        help="read every image once and report what is wrong",
        description="Read and decode every image of a data set once; write a manifest of all images and a report: "
        "broken files, duplicates within and across splits, classes, sizes. Exit code 2 where there are faults.",
    )
    parser.add_argument("root", metavar="ROOT", type=Path, help="folder, tar or CSV file of the data set")
    parser.add_argument("--dataset", metavar="NAME", help="its layout, as data.dataset (default: told by its files)")
    parser.add_argument("--manifest", metavar="FILE", type=Path, help="where to write (default: in ROOT, or beside it)")
    parser.add_argument("--allow-leak", action="store_true", help="take images that lie in several splits as they are")
    parser.set_defaults(run=run_check)


def run_check(options: argparse.Namespace) -> int:
    """Checks, and writes manifest and report."""
    from typing import get_args

    from rexnet.config.data_schema import DatasetName, SourceConfig
    from rexnet.data.datasets.by_name import recognise_layout
    from rexnet.dataset_tools.check import check
    from rexnet.errors import ConfigError

    if options.dataset not in (None, *get_args(DatasetName)):
        raise ConfigError(f"--dataset {options.dataset}: should be one of {', '.join(get_args(DatasetName))}")
    dataset = options.dataset or recognise_layout(options.root)
    check(SourceConfig(dataset=dataset, root=options.root, manifest=options.manifest), options.allow_leak)
    return 0


def _add_split(actions: Commands) -> None:
    parser = actions.add_parser(
        "split",
        help="hold a part of undivided class folders back for validation",
        description="Write a table that divides the images of class folders into train, val and, if asked, test, with "
        "a share of each class; nothing is moved. Training and evaluation read it as data.dataset=csv.",
    )
    parser.add_argument("root", metavar="ROOT", type=Path, help="folder with one folder for each class, or with train/")
    parser.add_argument("--val", metavar="SHARE", type=float, default=0.2, help="for validation (default: 0.2)")
    parser.add_argument("--test", metavar="SHARE", type=float, default=0.0, help="for a last test (default: 0)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="the table (default: ROOT/split.csv)")
    parser.set_defaults(run=run_split)


def run_split(options: argparse.Namespace) -> int:
    """Writes the table and says how to train with it."""
    from rexnet.dataset_tools.split import NAME, write_split

    target = options.out or options.root / NAME
    counts = write_split(options.root, target, options.val, options.test)
    images = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    print(f"Table        {target}  ({images})")
    print(f"Train        rexnet train --config finetune/folder data.dataset=csv data.root={shlex.quote(str(target))}")
    return 0


def _load(options: argparse.Namespace, *first: str) -> "Config":
    """The configuration as training would have it."""
    from rexnet.config import load_config
    from rexnet.models.factory import adopt_preprocessing

    return adopt_preprocessing(load_config(options.config, [*first, *options.overrides]))


def _add_show(actions: Commands) -> None:
    parser = actions.add_parser(
        "show",
        help="draw what augmentation does",
        description="Draw a PNG: images of the training set, random views of them, the view for evaluation, and what "
        "erasing, mixup and CutMix make of a batch.",
    )
    _add_config(parser)
    parser.add_argument("--output", metavar="FILE", type=Path, default=Path("augmentation.png"))
    parser.add_argument("--images", metavar="N", type=count, default=6, help="columns (default: 6)")
    parser.add_argument("--views", metavar="N", type=count, default=4, help="random views of each (default: 4)")
    parser.set_defaults(run=run_show)


def run_show(options: argparse.Namespace) -> int:
    """Writes the picture."""
    from rexnet.dataset_tools.preview import write_preview

    config = _load(options)
    write_preview(config, options.output, max(2, options.images), max(1, options.views))
    print(f"Picture      {options.output}")
    return 0


def _add_cache(actions: Commands) -> None:
    parser = actions.add_parser(
        "cache",
        help="fill the image cache on disk",
        description="Decode the training and validation images of a configuration into the cache that "
        "data.cache=disk uses, and say how large it is.",
    )
    _add_config(parser)
    parser.set_defaults(run=run_cache)


def run_cache(options: argparse.Namespace) -> int:
    """Fills the caches of both splits."""
    from rexnet.data.datamodule import fill_caches
    from rexnet.data.sources.image_files import size_text
    from rexnet.errors import ConfigError

    config = _load(options, "data.cache=disk")
    if config.data.cache != "disk":
        raise ConfigError("data.cache: only disk can be filled beforehand; ram is filled by each run and ends with it")
    for path, size in fill_caches(config):
        print(f"Cache        {path}  {size_text(size)}")
    return 0


def _add_speed(actions: Commands) -> None:
    parser = actions.add_parser(
        "speed",
        help="images/s by number of loader processes",
        description="Measure how fast the training images of a configuration come for several numbers of loader "
        "processes, and recommend one. With data.cache, the cache is filled first.",
    )
    _add_config(parser)
    parser.add_argument("--workers", metavar="N,N,...", type=_counts, help="numbers to try (default: up to the cores)")
    parser.add_argument("--seconds", metavar="S", type=float, default=5.0, help="time for each number (default: 5)")
    parser.set_defaults(run=run_speed)


def run_speed(options: argparse.Namespace) -> int:
    """Measures and prints a table with a recommendation."""
    from rexnet.dataset_tools.loader_speed import measure_speeds, recommend_workers, worker_numbers

    config = _load(options)
    speeds: dict[int, float] = {}
    print("workers   images/s")
    for workers, speed in measure_speeds(config, options.workers or worker_numbers(), options.seconds):
        speeds[workers] = speed
        print(f"{workers:>7} {speed:>10.0f}", flush=True)
    print(f"Recommended  data.num_workers={recommend_workers(speeds)}  (the fewest within 5 % of the fastest beside 0)")
    return 0


def _counts(text: str) -> list[int]:
    """Numbers of 0 or more, separated by commas, for argparse."""
    try:
        return [count(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"should be numbers such as 0,2,4, not {text!r}") from None
