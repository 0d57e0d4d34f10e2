import contextlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from rexnet.config import Config, load_config
from rexnet.data.augment.transforms import build_eval_transform
from rexnet.data.datamodule import ImageData
from rexnet.data.dataset import Batch, ImageDataset
from rexnet.data.datasets import load_index
from rexnet.data.datasets.eval_images import find_images
from rexnet.data.loaders import build_eval_loader, build_loader, resolve_loader
from rexnet.data.sampling import SampleKey
from rexnet.preprocessing import resolve_preprocessing


def configured(small_run: list[str], *overrides: str) -> Config:
    return load_config("finetune/folder.yaml", [*small_run, "augmentation.erase_prob=0", *overrides])


def transferred(config: Config, training: bool, epoch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of grey images as the network gets it."""
    data = ImageData(config)
    data.trainer = SimpleNamespace(training=training, current_epoch=epoch)  # type: ignore[assignment]
    batch = Batch(torch.full((4, 32, 32, 3), 51, dtype=torch.uint8), torch.tensor([0, 1, 2, 0]), seed=1)
    return data.on_after_batch_transfer(batch, 0)


def test_mean_and_std_of_the_configuration_scale_the_images(small_run: list[str]) -> None:
    images, labels = transferred(configured(small_run, "data.mean=[0.1,0.2,0.3]", "data.std=[0.1,0.2,0.5]"), True)
    torch.testing.assert_close(images[0, :, 0, 0], torch.tensor([1.0, 0.0, -0.2]))
    assert labels.tolist() == [0, 1, 2, 0]


def test_only_training_batches_are_augmented(small_run: list[str]) -> None:
    config = configured(small_run, "augmentation.erase_prob=1", "augmentation.mixup=1")
    images, targets = transferred(config, training=True)
    assert targets.shape == (4, 3)
    assert images.unique().numel() > 10
    images, targets = transferred(config, training=False)
    assert targets.shape == (4,)
    assert images.unique().numel() == 3  # one value a channel


@pytest.mark.parametrize(("setting", "expected"), [("true", True), ("false", False), ("auto", True)])
def test_the_memory_layout_is_the_configured_one(setting: str, expected: bool, small_run: list[str]) -> None:
    images, _ = transferred(configured(small_run, f"trainer.channels_last={setting}"), True)
    assert images.is_contiguous(memory_format=torch.channels_last) is expected


def test_an_incomplete_last_batch_is_dropped_or_padded(small_run: list[str]) -> None:
    assert ImageData(configured(small_run, "data.batch_size=10")).steps_per_epoch == 2
    assert ImageData(configured(small_run, "data.batch_size=10", "data.last_batch=pad")).steps_per_epoch == 3


def test_class_names_come_from_the_training_folder(small_run: list[str], image_root: Path) -> None:
    data = ImageData(configured(small_run))
    assert data.class_names == ("ant", "bee", "cow")
    assert data.train_index.root == image_root / "train"


@pytest.mark.parametrize("workers", [0, 2])
def test_images_straight_from_a_tar_are_those_of_the_folder(
    workers: int, small_run: list[str], image_root: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        tar.add(image_root, arcname=".")
    batches = []
    for root in (image_root, tmp_path / "images.tar"):
        config = configured(small_run, f"data.root={root}", f"data.num_workers={workers}")
        index = load_index(config.data, "train")
        dataset = ImageDataset(index, build_eval_transform(resolve_preprocessing(config, index.class_names)))
        batches.append(list(build_eval_loader(dataset, 8, resolve_loader(config.data, config.trainer))))
    for here, there in zip(*batches, strict=True):
        assert torch.equal(here.images, there.images)
        assert torch.equal(here.labels, there.labels)


def test_mixing_ends_with_the_epochs_of_the_run(small_run: list[str]) -> None:
    config = configured(small_run, "augmentation.mixup=1", "augmentation.mix_epochs=2")
    assert [transferred(config, training=True, epoch=epoch)[1].ndim for epoch in range(4)] == [2, 2, 1, 1]


def test_another_root_is_measured_as_a_whole(small_run: list[str], image_root: Path, tmp_path: Path) -> None:
    manifest = ["data.on_bad_image=skip_listed", f"data.manifest={tmp_path / 'of-training.csv'}", "data.download=true"]
    config = configured(small_run, f"data.root={tmp_path / 'nowhere'}", *manifest)
    assert len(find_images(config.data, "val", image_root)) == 15


def test_a_batch_travels_to_a_gpu_on_a_stream_of_its_own(small_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake tensors stand in for the GPU; the stand-ins of its streams write down what would happen in which order."""
    events: list[str] = []

    class Stream:
        def wait_stream(self, other: "Stream") -> None:
            events.append("the step waits for the copy")

    @contextlib.contextmanager
    def on(stream: Stream) -> Iterator[None]:
        events.append("copies" if stream is not step else "wrong stream")
        yield
        events.append("copied")

    step = Stream()
    monkeypatch.setattr("torch.cuda.Stream", lambda device: Stream())
    monkeypatch.setattr("torch.cuda.stream", on)
    monkeypatch.setattr("torch.cuda.current_stream", lambda device: step)
    kept = lambda tensor, stream: events.append("kept until read" if stream is step else "wrong stream")  # noqa: E731
    monkeypatch.setattr("torch.Tensor.record_stream", kept)
    data = ImageData(small_config)
    with FakeTensorMode():
        batch = Batch(torch.empty(2, 32, 32, 3, dtype=torch.uint8), torch.empty(2, dtype=torch.int64), 7)
        copied = data.transfer_batch_to_device(batch, torch.device("cuda"), 0)
        assert (copied.images.device.type, copied.labels.device.type, copied.seed) == ("cuda", "cuda", 7)
        first = data._copies
        data.transfer_batch_to_device(batch, torch.device("cuda"), 0)
    assert data._copies is first
    assert events == ["copies", "copied", "the step waits for the copy", "kept until read", "kept until read"] * 2


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker")
@pytest.mark.parametrize("more", [["data.num_workers=2"], ["data.num_workers=1", "data.cache=disk"]], ids=str)
def test_batches_have_the_size_of_their_epoch_although_loader_processes_stay(
    more: list[str], small_run: list[str]
) -> None:
    growing = ["augmentation.image_size={start: 32, end: 96}", "schedule.epochs=4", "augmentation.repeats=2"]
    data = ImageData(configured(small_run, *growing, *more))
    data.prepare_data()
    data.setup("fit")
    if more[1:]:
        assert data.train_dataset.content == "training images of 144 px"
    sampler = data.train_sampler(0)
    loader = build_loader(data.train_dataset, sampler, data.loader_settings)
    for epoch, size in enumerate((32, 64, 96, 96)):
        sampler.set_epoch(epoch)
        assert [tuple(batch.images.shape) for batch in loader] == [(8, size, size, 3)] * 3
    assert data.val_dataset[SampleKey(0, 0)].image.shape == (32, 32, 3)
