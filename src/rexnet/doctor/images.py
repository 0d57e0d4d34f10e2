"""What the images are, whether splits share some, and whether augmentation is as random as it should be."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from rexnet.config import Config
from rexnet.data.augment.transforms import build_train_transform
from rexnet.data.datamodule import ImageData
from rexnet.data.dataset import ImageDataset
from rexnet.data.datasets.index import Index, Split
from rexnet.data.datasets.manifest import manifest_path, paths_of, read_manifest
from rexnet.data.loaders import build_loader, resolve_loader
from rexnet.data.sampling import TrainBatchSampler
from rexnet.data.sources.image_files import size_text
from rexnet.data.workers import explained_faults
from rexnet.dataset_tools.check_report import UNEVEN_CLASSES
from rexnet.doctor.finding import Finding

COPIES, EPOCHS, WORKERS = 32, 2, 2
NAMED = 3  # classes or images in a line


def check_classes(data: ImageData) -> Iterator[Finding]:
    """Images and classes of both splits."""
    train, val = data.train_index, data.val_index
    counts = train.class_counts()
    least, most = int(counts.argmin()), int(counts.argmax())
    text = (
        f"{len(train):,} training and {len(val):,} validation images of {len(train.class_names):,} classes, "
        f"{counts[least]:,} to {counts[most]:,} of a class; {data.steps_per_epoch:,} steps an epoch"
    )
    yield Finding("ok", "data", text)
    if counts[most] > UNEVEN_CLASSES * counts[least]:
        names = f"{train.class_names[least]} has {counts[least]:,} images, {train.class_names[most]} {counts[most]:,}"
        yield Finding("warning", "classes", f"{names}; data.sampling=balanced shows all classes equally often")
    if train.class_names != val.class_names:
        yield Finding("error", "classes", f"{train.root} and {val.root} have different classes, so labels mean others")
    missing = [val.class_names[number] for number in np.setdiff1d(train.labels, val.labels)[: NAMED + 1]]
    if missing:
        text = f"no validation image of {', '.join(missing[:NAMED])}{' and others' if len(missing) > NAMED else ''}"
        yield Finding("warning", "classes", f"{text}; the accuracy says nothing of them")


def check_manifest(config: Config, data: ImageData) -> Iterator[Finding]:
    """Broken images, and images in both splits, as far as `rexnet data check` has written them down."""
    path = manifest_path(config.data)
    if not path.is_file():
        text = f"not looked for; `rexnet data check {config.data.root}` finds broken images and those in both splits"
        yield Finding("ok", "leak", text)
        return
    indexes: dict[Split, Index] = {"train": data.train_index, "val": data.val_index}
    names = {split: set(paths_of(index, config.data.root)) for split, index in indexes.items()}
    found: dict[str, dict[str, str]] = defaultdict(dict)  # by digest, a path in each split
    broken, listed = set[str](), set[str]()
    with read_manifest(path) as entries:
        for entry in entries:  # a table may have one file in both splits, and the manifest has it twice then
            for split in (split for split in indexes if entry.path in names[split]):
                listed.add(entry.path)
                if entry.fault:
                    broken.add(entry.path)
                else:
                    found[entry.sha256][split] = entry.path
    leaks = [tuple(by_split.values()) for by_split in found.values() if len(by_split) > 1]
    total = len(set.union(*names.values()))
    if len(listed) < total:
        text = f"{path} knows {len(listed):,} of {total:,} images; make it anew with `rexnet data check`"
        yield Finding("warning", "leak", text)
    if broken:
        named = f"{len(broken):,} images are broken, such as {min(broken)}"
        yield Finding("error", "broken", f"{named}; mend them or set data.on_bad_image=skip_listed")
    if leaks:
        named = f"{len(leaks):,} images are in both splits, such as {' = '.join(leaks[0])}"
        yield Finding("error", "leak", f"{named}; remove them from one")
    elif len(listed) == total:
        yield Finding("ok", "leak", f"no file is in both splits, by the digests in {path}")


def check_augmentation(config: Config, data: ImageData) -> Iterator[Finding]:
    """Views of one image in two epochs by two loader processes: all different, and those that this process makes."""
    index = data.train_index.select([0] * COPIES)
    dataset = ImageDataset(index, build_train_transform(config.data, config.augmentation), config.seed)
    sampler = TrainBatchSampler(COPIES, COPIES // 4, config.seed)
    settings = resolve_loader(config.data, config.trainer)._replace(workers=WORKERS, persistent_workers=False)
    loader = build_loader(dataset, sampler, settings)
    apart, here = [], []
    with explained_faults([dataset], config.data.worker_timeout):
        for epoch in range(EPOCHS):
            sampler.set_epoch(epoch)
            apart += [_digest(image) for batch in loader for image in batch.images.numpy()]
            here += [_digest(dataset[key].image) for keys in sampler for key in keys]
    views = f"{len(set(apart))} of {len(apart)} views of one image differ ({WORKERS} processes, {EPOCHS} epochs)"
    if apart != here:
        text = "loader processes make other views than this one does, so that a resumed run would not be the same"
        yield Finding("error", "augmentation", text)
    elif 2 * len(set(apart)) < len(apart):
        text = f"{views}; the section augmentation changes little, and a network learns such images by heart"
        yield Finding("warning", "augmentation", text)
    else:
        yield Finding("ok", "augmentation", views)


def check_cache(config: Config, data: ImageData) -> Iterator[Finding]:
    """Whether the decoded images have room."""
    if config.data.cache is None:
        return
    needed, free = data.cache.require_space()
    text = f"the cache will take about {size_text(needed)}, {size_text(free)} are free" if needed else "it is filled"
    yield Finding("ok", "cache", text)


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()
