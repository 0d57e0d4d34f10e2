import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rexnet.config import DetectionConfig, load_config
from rexnet.data.loaders import build_eval_loader, build_loader, resolve_loader
from rexnet.data.sampling import TrainBatchSampler
from rexnet.detection.box_dataset import BoxBatch
from rexnet.detection.detection_data import AspectBatchSampler, DetectionData
from rexnet.errors import ConfigError, DataError

CROPS = ["augmentation.crop=ssd", "augmentation.flip=0.5", "augmentation.color_jitter=0.4"]


def configured(run: list[str], *more: str) -> DetectionConfig:
    return load_config("detect/finetune", [*run, "data.batch_size=4", *more], DetectionConfig)


def equal(first: list[BoxBatch], second: list[BoxBatch]) -> bool:
    pairs = [pair for batches in zip(first, second, strict=True) for pair in zip(*batches, strict=True)]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def epoch_of(data: DetectionData, workers: int = 0, start: int = 0, epoch: int = 1) -> list[BoxBatch]:
    trainer = data.config.trainer
    settings = resolve_loader(data.config.data.model_copy(update={"num_workers": workers}), trainer)
    sampler = data.train_sampler(0)
    sampler.start_at(epoch, start)
    return list(build_loader(data.train_dataset, sampler, settings))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("name", ["ssdlite", "mask_rcnn"])
def test_batches_depend_neither_on_loader_processes_nor_on_where_a_run_starts(shapes_run: list[str], name: str) -> None:
    data = DetectionData(configured(shapes_run, *CROPS, f"detector.name={name}", "data.group_by_aspect=true"))
    batches = epoch_of(data)
    assert len(batches) == 4
    for workers in (1, 2):
        assert equal(epoch_of(data, workers), batches)
    assert equal(epoch_of(data, start=2), batches[2:])
    assert not equal(epoch_of(data, epoch=2), batches)


def test_processes_share_the_images_of_a_step(shapes_run: list[str]) -> None:
    alone = DetectionData(configured(shapes_run, "data.group_by_aspect=true"))
    pair = DetectionData(configured(shapes_run, "data.group_by_aspect=true"), world_size=2)
    assert alone.steps_per_epoch == pair.steps_per_epoch == 4
    for step in range(4):
        keys = [key for rank in range(2) for key in pair.train_sampler(rank).batch_at(3, step)]
        assert sorted(keys) == sorted(alone.train_sampler(0).batch_at(3, step))
        assert sorted(alone.paths_of_step(3, step)) == sorted(pair.paths_of_step(3, step))
    with pytest.raises(ConfigError, match=r"data\.batch_size: 4 should be a multiple of 3"):
        DetectionData(configured(shapes_run), world_size=3)


def test_steps_have_images_of_one_shape_as_far_as_possible() -> None:
    is_tall = np.arange(103) % 5 == 0  # 21 of 103
    sampler = AspectBatchSampler(is_tall, 8, 7)
    assert len(sampler) == len(TrainBatchSampler(103, 8, 7)) == 12
    orders = []
    for epoch in (0, 1):
        steps = [[key.position for key in sampler.batch_at(epoch, step)] for step in range(12)]
        seen = [position for step in steps for position in step]
        assert len({*seen}) == 96
        orders.append(seen)
        mixed = [step for step in steps if len({*is_tall[step].tolist()}) == 2]
        assert len(mixed) <= 1
        assert sum(is_tall[step].all() for step in steps) == 2
    assert orders[0] != orders[1]


def test_a_batch_becomes_images_and_targets(shapes_run: list[str]) -> None:
    data = DetectionData(configured(shapes_run, "detector.name=mask_rcnn", "augmentation.flip=0"))
    data.trainer = SimpleNamespace(training=True)  # type: ignore[assignment]
    batch = data.train_dataset.collate([data.train_dataset.sample(position, 0) for position in (0, 1, 2)])
    assert batch.images.shape == (3, 96, 96, 3)
    assert batch.counts == [1, 2, 3]
    images, targets = data.on_after_batch_transfer(batch, 0)
    assert [image.shape for image in images] == [(3, 96, 80), (3, 72, 96), (3, 96, 80)]
    index = data.train_index
    for position, (image, target) in enumerate(zip(images, targets, strict=True)):
        objects = index.objects_of(position)
        assert target["image_id"] == position
        assert target["boxes"].tolist() == index.boxes[objects].tolist()
        assert target["labels"].tolist() == index.labels[objects].tolist()
        assert target["scale"].tolist() == [1, 1, 1, 1]
        assert target["masks"].shape == (len(target["boxes"]), *image.shape[1:])
        for box, mask in zip(target["boxes"].int().tolist(), target["masks"], strict=True):
            assert mask[box[1] : box[3], box[0] : box[2]].all()
            assert mask.sum() == (box[2] - box[0]) * (box[3] - box[1])
    assert data.class_names == ("disk", "square")


def test_validation_sees_every_image_once_and_boxes_scale_back_to_the_file(shapes_run: list[str]) -> None:
    data = DetectionData(configured(shapes_run))
    settings = data.loader_settings._replace(workers=0)
    batches = [
        batch for rank in range(3) for batch in build_eval_loader(data.val_dataset, data.eval_batch, settings, rank, 3)
    ]
    assert [position for batch in batches for position in batch.positions] == [0, 1, 2, 3, 4, 5]
    assert batches[-1].images.shape == (0, 1, 1, 3)  # a process without images
    data.trainer = SimpleNamespace(training=False)  # type: ignore[assignment]
    assert data.on_after_batch_transfer(batches[-1], 0) == ([], [])
    images, targets = data.on_after_batch_transfer(batches[0], 0)
    assert images[1].shape == (3, 64, 64)
    assert targets[1]["scale"].tolist() == [1.5, 1.125, 1.5, 1.125]
    torch.testing.assert_close(
        targets[1]["boxes"] * targets[1]["scale"], torch.from_numpy(data.val_index.boxes[data.val_index.objects_of(1)])
    )


def rewritten(root: Path, tmp_path: Path, change: Any) -> Path:
    """Copies the shapes with changed training annotations."""
    (tmp_path / "copy" / "annotations").mkdir(parents=True)
    (tmp_path / "copy" / "images").symlink_to(root / "images")
    for split in ("train", "val"):
        content = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
        if split == "train":
            change(content)
        (tmp_path / "copy" / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return tmp_path / "copy"


def test_crowds_are_not_trained_on(shapes_root: Path, shapes_run: list[str], tmp_path: Path) -> None:
    def change(content: Any) -> None:
        content["annotations"][0]["iscrowd"] = 1  # the only one of the first image
        content["annotations"][1]["iscrowd"] = 1

    arguments = [*shapes_run, f"data.root={rewritten(shapes_root, tmp_path, change)}"]
    data = DetectionData(configured(arguments))
    assert len(data.train_dataset) == 16
    assert [len(data.train_dataset.sample(position, 0).labels) for position in (0, 1, 2)] == [0, 1, 3]
    data = DetectionData(configured(arguments, "data.train_on_empty=false"))
    assert len(data.train_dataset) == 15
    assert data.paths_of_step(0, 0)[0] != data.train_index.source.paths[0]
    assert data.train_index.source.paths[0] == "01.png"


def test_what_does_not_fit_an_image_is_one_sentence(shapes_root: Path, shapes_run: list[str], tmp_path: Path) -> None:
    def change(content: Any) -> None:
        content["images"][0] |= {"height": 80, "width": 96}
        content["annotations"][1]["segmentation"] = {"size": [72, 96], "counts": [3, 4]}

    root = rewritten(shapes_root, tmp_path, change)
    data = DetectionData(configured([*shapes_run, f"data.root={root}", "detector.name=mask_rcnn"]))
    with pytest.raises(DataError) as caught:
        data.train_dataset.sample(0, 0)
    assert str(caught.value) == (
        f"{root}/images/train/00.png: is 80 x 96 pixels, but 96 x 80 in its annotations; correct them, or save the "
        f"image upright if its EXIF data turn it"
    )
    with pytest.raises(DataError, match=r"01\.png: has a mask that cannot be decoded: Invalid RLE mask representation"):
        data.train_dataset.sample(1, 0)
    with pytest.raises(DataError, match=r"has 16 images, fewer than one batch of 32; lower data\.batch_size or set"):
        DetectionData(configured(shapes_run, "data.batch_size=32"))
