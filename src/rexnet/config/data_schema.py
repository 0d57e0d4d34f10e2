"""The config sections of the images: data set, loading, evaluation transform and augmentation."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from rexnet.config.remote_path import parse_url
from rexnet.config.section import Count, FilePath, PositiveFloat, PositiveInt, Probability, Role, Section
from rexnet.errors import ConfigError

SIZE_STEP, MAX_SIZE = 32, 4096  # pixels; networks halve their input five times

Interpolation = Literal["bilinear", "bicubic"]
DatasetName = Literal[
    "folder", "csv", "webdataset", "cub200", "cars", "flowers102", "aircraft", "food101", "imagenet", "digits"
]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class FetchConfig(Section):
    """Requests to an object store."""

    in_flight: Annotated[PositiveInt, Role.MECHANICS] = 64
    """Requests at the same time, shared by all loader processes of a machine."""
    timeout: Annotated[PositiveFloat, Role.MECHANICS] = 30.0
    """Seconds until a request without a complete answer is repeated."""
    give_up_after: Annotated[PositiveFloat, Role.MECHANICS] = 300.0
    """Seconds of repeated failures after which the run stops with an error."""


class SourceConfig(Section):
    """The data set."""

    dataset: Annotated[DatasetName, Role.FIXED]
    """Layout: `folder` has class folders in train/ and val/, or a tar of them; `csv` is a table of path, label and
    split; `digits` are those of scikit-learn, written to `root` on first use; the others are in docs/data.md."""
    root: Annotated[FilePath, BeforeValidator(parse_url), Role.MECHANICS]
    """Folder of the data set; for `folder` also a tar file, for `csv` also the table itself. `folder`, `csv` and
    `webdataset` may be in an object store: `s3://`, `gs://`, `az://` or `https://`."""
    fetch: FetchConfig = FetchConfig()
    download: Annotated[bool, Role.MECHANICS] = False
    """Download the data set into `root` if it is missing and publicly available."""
    train_on: Literal["train", "train+val"] = "train"
    """`train+val`: train on both splits, as papers do with Flowers-102, and validate on `test`."""
    crop_to_box: bool = False
    """Crop every image to its bounding box (cub200, and cars with its .mat files)."""
    on_bad_image: Literal["error", "skip_listed"] = "error"
    """`skip_listed`: leave out the images that the manifest of `rexnet data check` lists as broken. Any other image
    that cannot be decoded stops the run."""
    manifest: Annotated[FilePath | None, Role.MECHANICS] = None
    """File of that manifest; null: rexnet-manifest.csv in `root`."""

    @model_validator(mode="after")
    def _boxes_are_published(self) -> Self:
        if self.crop_to_box and self.dataset not in ("cub200", "cars"):
            raise ValueError(f"crop_to_box needs cub200 or cars; {self.dataset} has no bounding boxes")
        return self


class LoaderConfig(Section):
    """The loader processes."""

    num_workers: Annotated[Count | None, Role.MECHANICS] = None
    """Loader processes per device; null: one per core available to the device, at most 16."""
    persistent_workers: Annotated[bool, Role.MECHANICS] = True
    """Keep the loader processes between epochs."""
    start_method: Annotated[Literal["fork", "forkserver", "spawn"] | None, Role.MECHANICS] = None
    """Start method of the loader processes; null: Python's default."""
    worker_timeout: Annotated[float, Field(gt=0), Role.MECHANICS] = 600.0
    """Seconds to wait for a batch before the run stops with an error, as when a disk hangs."""


class BatchConfig(LoaderConfig):
    """The batches: all that training knows of the data of any task."""

    root: Annotated[FilePath, Role.MECHANICS]
    """Folder of the data set."""
    image_size: Annotated[int, Field(ge=16, le=MAX_SIZE)]
    """Side of the square network input, in pixels."""
    batch_size: Annotated[Literal["auto"] | PositiveInt, Role.FIXED]
    """Images per optimizer step, summed over all devices and micro-batches; `auto` finds the largest power of two that
    fits into GPU memory and leaves 20 steps an epoch, takes the learning rates as those of 256 images, and writes both
    into the run's config."""
    last_batch: Annotated[Literal["drop", "pad"], Role.FIXED] = "drop"
    """Treatment of an incomplete last training batch: drop it, or pad it with images from the epoch's start."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Channel means of RGB scaled to 0..1."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = IMAGENET_STD
    """Channel standard deviations of RGB scaled to 0..1."""

    @property
    def step_images(self) -> int:
        """The batch size as a number; a ConfigError while `auto` is not resolved."""
        if self.batch_size == "auto":
            raise ConfigError("data.batch_size: auto needs rexnet train --config or rexnet doctor; give a number here")
        return self.batch_size


class DataConfig(SourceConfig, BatchConfig):
    """The images, their batches and their loading."""

    sampling: Literal["shuffled", "balanced"] = "shuffled"
    """`shuffled`: each image once per epoch; `balanced`: all classes equally often, repeating images of rare ones."""
    cache: Literal["disk"] | None = None
    """Keep decoded images in a file that all processes map and later runs reuse; null: decode every time."""
    cache_scale: Annotated[float, Field(ge=1, le=16)] = 1.5
    """Short side of cached training images, as a multiple of their largest size; larger images are reduced to it."""
    cache_folder: Annotated[FilePath | None, Role.MECHANICS] = None
    """Folder of the cache, such as `/dev/shm/NAME` for memory; null: `image-cache` in `trainer.runs_dir`."""


class EvalTransformConfig(Section):
    """The transform of validation, evaluation and export; every checkpoint carries it."""

    crop_pct: Annotated[float, Field(gt=0, le=1)]
    """The short side is resized to image_size / crop_pct before the center crop."""
    interpolation: Interpolation
    """Resampling filter of that resize."""


class RandAugmentConfig(Section):
    """RandAugment (arXiv 1909.13719), as timm implements it in `rand-m9-mstd0.5`."""

    magnitude: Annotated[float, Field(ge=0, le=10)]
    """Strength of the operations, 0 to 10."""
    magnitude_std: Annotated[float, Field(ge=0, le=10)]
    """Standard deviation of the strength, which is sampled for each operation."""
    num_ops: PositiveInt = 2
    """Operations sampled per image; each is applied with probability 0.5."""
    increasing: bool = False
    """Strengthen posterize and solarize with the magnitude too, as in timm's `-inc1`, instead of weakening them."""


class TrainingSizeConfig(Section):
    """Size of the training images in each epoch; a single number stands for a constant size."""

    start: PositiveInt
    """Side of the first epoch's images in pixels, a multiple of 32."""
    end: PositiveInt
    """Side of the last epochs' images."""
    epochs: PositiveInt | None = None
    """Epochs, from the first, in which the size grows to `end`, in equally long steps of 32 pixels; null: all sizes,
    `end` included, get equal parts of `schedule.epochs`."""

    def by_epoch(self, epochs: int, total: int) -> tuple[int, ...]:
        """Returns the size in each of `total` epochs, of which the first `epochs` precede the cool-down."""
        steps = (self.end - self.start) // SIZE_STEP
        growing = self.epochs or epochs * steps // (steps + 1)
        smaller = [self.start + SIZE_STEP * (epoch * steps // growing) for epoch in range(growing)]
        return (*smaller, *[self.end] * (total - growing))

    @model_validator(mode="after")
    def _sizes_fit_networks(self) -> Self:
        for size in (self.start, self.end):
            near = {min(max(1, n // SIZE_STEP) * SIZE_STEP, MAX_SIZE) for n in (size, size + SIZE_STEP - 1)}
            if near != {size}:
                nearest = " or ".join(map(str, sorted(near)))
                raise ValueError(f"{size} px should be a multiple of {SIZE_STEP} up to {MAX_SIZE}, such as {nearest}")
        if self.start > self.end:
            raise ValueError(f"start ({self.start}) should not exceed end ({self.end})")
        return self


def _as_sizes(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"start": value, "end": value}
    if not isinstance(value, dict | Section | None):
        raise ValueError("should be null, a number of pixels, or {start: PIXELS, end: PIXELS}")
    return value


class AugmentationConfig(Section):
    """Random transforms of the training images."""

    image_size: Annotated[TrainingSizeConfig | None, BeforeValidator(_as_sizes)] = None
    """Size of the training images if it differs from `data.image_size`, that of validation: smaller (FixRes, arXiv
    1906.06423) or growing (progressive resizing, arXiv 2104.00298). Both save time in long trainings, but cost accuracy
    in those of a few hundred steps; see docs/training.md. null: `data.image_size`."""
    crop_scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]]
    """Smallest and largest fraction of the image's area that a random crop covers."""
    crop_ratio: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (3 / 4, 4 / 3)
    """Smallest and largest aspect ratio of that crop."""
    interpolation: Literal["bilinear", "bicubic", "random"]
    """Resampling filter; `random` chooses one of the two for each image."""
    flip: Probability
    """Probability of a horizontal flip."""
    color_jitter: Annotated[float, Field(ge=0, le=1)]
    """Largest relative change of brightness, contrast and saturation."""
    randaugment: RandAugmentConfig | None
    """RandAugment; null: off."""
    repeats: PositiveInt = 1
    """Views of each image in a batch (repeated augmentation, arXiv 1901.09335). The length of an epoch stays the same,
    so each epoch sees a different 1 / repeats of the images."""
    erase_prob: Probability
    """Probability of random erasing."""
    erase_mode: Literal["pixel", "const"] = "pixel"
    """Fill of the erased rectangles: normal noise per pixel, or the mean color."""
    erase_count: PositiveInt = 1
    """Largest number of erased rectangles; the number is random, and together they have the area of one."""
    mixup: Annotated[float, Field(ge=0)]
    """Alpha of mixup's Beta distribution; 0: off."""
    cutmix: Annotated[float, Field(ge=0)]
    """Alpha of CutMix's Beta distribution; 0: off. If both are on, each mixed batch uses one of them."""
    mix_prob: Probability = 1.0
    """Probability that a batch is mixed if mixup or cutmix is on."""
    cutmix_share: Probability = 0.5
    """Probability of CutMix for a mixed batch if both are on."""
    mix_epochs: PositiveInt | None = None
    """Number of epochs, from the first, that use mixup and CutMix; null: all."""

    @model_validator(mode="after")
    def _ranges_ascend(self) -> Self:
        for key, (low, high) in {"crop_scale": self.crop_scale, "crop_ratio": self.crop_ratio}.items():
            if low > high:
                raise ValueError(f"{key} should be [smallest, largest], not [{low:g}, {high:g}]")
        return self
