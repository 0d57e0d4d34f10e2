"""`rexnet data check|split|show|cache|index|pack`: tools for a data set."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rexnet.cli.arguments import Commands, add_config, as_path, as_root, count

if TYPE_CHECKING:
    from rexnet.config import Config
    from rexnet.config.data_schema import DatasetName


def add_parser(commands: Commands) -> None:
    """Adds the group of commands."""
    group = commands.add_parser("data", help="check, split, preview, cache, index or pack a data set")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    _add_check(actions)
    _add_split(actions)
    _add_show(actions)
    _add_cache(actions)
    _add_index(actions)
    _add_pack(actions)


def _add_check(actions: Commands) -> None:
    parser = actions.add_parser(
        "check",
        help="read every image once and report problems",
        description="Write a manifest of all images and a report of problems. Exit code 2 if there are any.",
    )
    parser.add_argument("root", metavar="ROOT", type=as_root, help="folder, tar, CSV file or URL of the data set")
    parser.add_argument("--dataset", metavar="NAME", help="layout, as data.dataset (default: detected)")
    parser.add_argument("--manifest", metavar="FILE", type=as_path, help="manifest (default: in ROOT, or next to it)")
    parser.add_argument("--allow-leak", action="store_true", help="accept images that are in several splits")
    parser.set_defaults(run=run_check)


def run_check(options: argparse.Namespace) -> int:
    """Checks a data set: writes manifest and report or, for boxes, prints a report."""
    from rexnet.config.data_schema import SourceConfig
    from rexnet.config.detection_schema import DetectionDataConfig
    from rexnet.dataset_tools.check import check
    from rexnet.detection.box_check import check_boxes
    from rexnet.detection.box_sets import detect_boxes

    form = options.dataset or detect_boxes(options.root)
    if form in ("coco", "coco2017", "voc"):
        data = DetectionDataConfig(dataset=form, root=options.root, image_size=320, batch_size=1)
        check_boxes(data, options.allow_leak)
        return 0
    check(SourceConfig(dataset=_layout_of(options), root=options.root, manifest=options.manifest), options.allow_leak)
    return 0


def _add_split(actions: Commands) -> None:
    parser = actions.add_parser(
        "split",
        help="split class folders into training and validation images",
        description="Write a table for data.dataset=csv with the same fraction of each class. No file is moved.",
    )
    parser.add_argument("root", metavar="ROOT", type=as_path, help="folder with class folders, or with train/")
    parser.add_argument("--val", metavar="F", type=float, default=0.2, help="validation fraction (default: 0.2)")
    parser.add_argument("--test", metavar="F", type=float, default=0.0, help="test fraction (default: 0)")
    parser.add_argument("--out", metavar="FILE", type=as_path, help="table (default: ROOT/split.csv)")
    parser.set_defaults(run=run_split)


def run_split(options: argparse.Namespace) -> int:
    """Writes the table and prints the command that trains with it."""
    from rexnet.dataset_tools.split import NAME, write_split

    target = options.out or options.root / NAME
    counts = write_split(options.root, target, options.val, options.test)
    images = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    print(f"Table        {target}  ({images})")
    print(f"Train        rexnet train --config finetune/folder data.dataset=csv data.root={shlex.quote(str(target))}")
    return 0


def _add_show(actions: Commands) -> None:
    parser = actions.add_parser(
        "show",
        help="draw a preview of the augmentation",
        description="Draw training images, random views of them, their evaluation view, and a mixed batch.",
    )
    add_config(parser)
    parser.add_argument("--output", metavar="FILE", type=as_path, default=Path("augmentation.png"))
    parser.add_argument("--images", metavar="N", type=count, default=6, help="columns (default: 6)")
    parser.add_argument("--views", metavar="N", type=count, default=4, help="random views per image (default: 4)")
    parser.set_defaults(run=run_show)


def run_show(options: argparse.Namespace) -> int:
    """Writes the preview."""
    from rexnet.dataset_tools.preview import draw_preview
    from rexnet.figures.image_grid import save_image_grid

    save_image_grid(draw_preview(_load(options), max(2, options.images), max(1, options.views)), options.output)
    print(f"Picture      {options.output}")
    return 0


def _add_cache(actions: Commands) -> None:
    parser = actions.add_parser(
        "cache",
        help="fill the image cache on disk",
        description="Decode the images of a configuration into the cache that data.cache=disk uses.",
    )
    add_config(parser)
    parser.set_defaults(run=run_cache)


def run_cache(options: argparse.Namespace) -> int:
    """Fills the caches of both splits."""
    from rexnet.data.datamodule import fill_caches
    from rexnet.data.sources.image_files import size_text

    for path, size in fill_caches(_load(options, "data.cache=disk")):
        print(f"Cache        {path}  {size_text(size)}")
    return 0


def _add_index(actions: Commands) -> None:
    parser = actions.add_parser(
        "index",
        help="index a tar, or index a remote data set again",
        description="Write the index next to a tar, to be uploaded with it; or list a remote data set again.",
    )
    parser.add_argument("root", metavar="ROOT", type=as_root, help="tar, or URL of a data set")
    parser.add_argument("--dataset", metavar="NAME", help="layout of a URL, as data.dataset (default: folder or csv)")
    parser.set_defaults(run=run_index)


def run_index(options: argparse.Namespace) -> int:
    """Indexes a tar or a remote data set."""
    from rexnet.config.data_schema import FetchConfig
    from rexnet.config.remote_path import RemotePath
    from rexnet.data.remote.indexing import open_remote
    from rexnet.data.sources.tar import open_tar

    if isinstance(options.root, RemotePath):
        count = len(open_remote(options.root, _layout_of(options), FetchConfig(), again=True))
    else:
        count = len(open_tar(options.root))
    print(f"Index        {count:,} images in {options.root}")
    return 0


def _add_pack(actions: Commands) -> None:
    parser = actions.add_parser(
        "pack",
        help="pack a data set into tar shards for an object store",
        description="Write all splits as shuffled tar shards with indexes, for data.dataset=webdataset.",
    )
    parser.add_argument("root", metavar="SRC", type=as_root, help="folder, tar, CSV file or URL of the data set")
    parser.add_argument("folder", metavar="DEST", type=as_path, help="a new folder")
    parser.add_argument("--dataset", metavar="NAME", help="layout, as data.dataset (default: detected)")
    parser.set_defaults(run=run_pack)


def run_pack(options: argparse.Namespace) -> int:
    """Writes the shards."""
    from rexnet.config.data_schema import SourceConfig
    from rexnet.data.datasets.by_name import load_index, splits_of
    from rexnet.data.remote.pack import pack

    config = SourceConfig(dataset=_layout_of(options), root=options.root)
    shards = pack({split: load_index(config, split) for split in splits_of(config)}, options.folder)
    print(f"Shards       {len(shards)} in {options.folder}; upload the whole folder, hidden files too")
    return 0


def _layout_of(options: argparse.Namespace) -> "DatasetName":
    """Returns the layout that `--dataset` names or, without it, that the root has."""
    from rexnet.config.data_schema import DatasetName
    from rexnet.data.datasets.by_name import detect_layout
    from rexnet.errors import ConfigError

    dataset: DatasetName = options.dataset or detect_layout(options.root)
    if dataset not in get_args(DatasetName):
        raise ConfigError(f"--dataset {dataset}: should be one of {', '.join(get_args(DatasetName))}")
    return dataset


def _load(options: argparse.Namespace, *defaults: str) -> "Config":
    """Loads the configuration with the preprocessing that training would use."""
    from rexnet.config import load_config
    from rexnet.models.factory import adopt_preprocessing

    return adopt_preprocessing(load_config(options.config, [*defaults, *options.overrides]))
