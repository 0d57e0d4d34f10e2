"""The sections that say what the images are and what happens to them."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rexnet.config.section import Count, PositiveFloat, PositiveInt, Probability, Role, Section

Interpolation = Literal["bilinear", "bicubic"]
DatasetName = Literal["folder", "csv", "imagenet", "cub200", "cars", "flowers102", "aircraft", "food101", "digits"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class SourceConfig(Section):
    """Where the images come from."""

    dataset: Annotated[DatasetName, Role.FIXED]
    """`folder`: class folders under train/ and val/, or a tar of them; `csv`: a table of path, label and split; the
    others as published (rexnet/data/datasets); `digits`: those of scikit-learn, written to `root` on first use."""
    root: Annotated[Path, Role.MECHANICS]
    """Folder of the data set; for `folder` also a tar, for `csv` also the table itself."""
    download: Annotated[bool, Role.MECHANICS] = False
    """Fetch the data set into `root` if it is not there and has a public address."""
    train_on: Literal["train", "train+val"] = "train"
    """`train+val`: train on both, as papers do with Flowers-102, and take `test` for validation."""
    crop_to_box: bool = False
    """Crop each image to its bounding box, in training and in evaluation (cub200, and cars with the .mat files)."""
    on_bad_image: Literal["error", "skip_listed"] = "error"
    """`skip_listed`: leave out the images that the manifest of `rexnet data check` lists as broken; any other image
    that cannot be decoded stops the run."""
    manifest: Annotated[Path | None, Role.MECHANICS] = None
    """That manifest; null: rexnet-manifest.csv in `root`."""

    @model_validator(mode="after")
    def _boxes_are_published(self) -> Self:
        if self.crop_to_box and self.dataset not in ("cub200", "cars"):
            raise ValueError(f"crop_to_box is for cub200 and cars; {self.dataset} has no bounding boxes")
        return self


class DataConfig(SourceConfig):
    """The images, and how many of them make a step."""

    image_size: Annotated[int, Field(ge=16, le=4096)]
    """Side of the square that the network sees, in pixels."""
    batch_size: Annotated[PositiveInt, Role.FIXED]
    """Images in one optimiser step, over all devices and accumulated parts together."""
    last_batch: Annotated[Literal["drop", "pad"], Role.FIXED] = "drop"
    """What becomes of an epoch's last, incomplete training batch: dropped, or filled from the epoch's start."""
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    """Images of an epoch: each once, or as many of each class (rare ones come again, each time augmented anew)."""
    cache: Literal["ram", "disk"] | None = None
    """Keep decoded images: in memory that all processes of a node share, until the run ends, or in a file that later
    runs use again; null: decode each time."""
    cache_scale: Annotated[float, Field(ge=1, le=16)] = 1.5
    """Cached training images are reduced to a short side of at most so many times `image_size`."""
    cache_folder: Annotated[Path | None, Role.MECHANICS] = None
    """Folder for `cache: disk`; null: `image-cache` in `trainer.runs_dir`."""
    num_workers: Annotated[Count | None, Role.MECHANICS] = None
    """Loader processes for each device; null: one for each core that the device has to itself, 16 at most."""
    persistent_workers: Annotated[bool, Role.MECHANICS] = True
    """Keep loader processes from one epoch to the next."""
    start_method: Annotated[Literal["fork", "forkserver", "spawn"] | None, Role.MECHANICS] = None
    """How loader processes are started; null: Python's own choice."""
    worker_timeout: Annotated[float, Field(gt=0), Role.MECHANICS] = 600.0
    """Seconds after which a batch that does not come ends the run; a hung disk would else stop it for ever."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Channel means of RGB scaled to 0..1."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = IMAGENET_STD
    """Channel standard deviations of RGB scaled to 0..1."""


class EvalTransformConfig(Section):
    """What happens to an image before validation, evaluation and export; it is stored in every checkpoint."""

    crop_pct: Annotated[float, Field(gt=0, le=1)]
    """The short side is resized to image_size / crop_pct before the central crop."""
    interpolation: Interpolation
    """Resampling filter of that resize."""


class RandAugmentConfig(Section):
    """RandAugment (arXiv 1909.13719) in timm's meaning of `rand-m9-mstd0.5`."""

    magnitude: Annotated[float, Field(ge=0, le=10)]
    """Strength, 0 to 10."""
    magnitude_std: Annotated[float, Field(ge=0, le=10)]
    """Standard deviation of the strength, drawn anew for each operation."""
    num_ops: PositiveInt = 2
    """Operations drawn for an image; each is applied with probability 0.5."""
    increasing: bool = False
    """Every operation grows with the strength, as in timm's `-inc1`; else posterize and solarize shrink."""


class AugmentationConfig(Section):
    """Randomness in training images."""

    crop_scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]]
    """Smallest and largest share of the image's area that a random crop covers."""
    crop_ratio: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (3 / 4, 4 / 3)
    """Smallest and largest aspect ratio of that crop."""
    interpolation: Literal["bilinear", "bicubic", "random"]
    """Resampling filter; `random` draws one of the two for each image."""
    flip: Probability
    """Probability of a horizontal flip."""
    color_jitter: Annotated[float, Field(ge=0, le=1)]
    """Largest relative change of brightness, contrast and saturation."""
    randaugment: RandAugmentConfig | None
    """RandAugment, or null for none."""
    trivialaugment: bool = False
    """TrivialAugment Wide (arXiv 2103.10158) in the place of RandAugment."""
    repeats: PositiveInt = 1
    """Views of an image in a batch (repeated augmentation, arXiv 1901.09335): an epoch keeps its length, so that it
    has a new 1 / repeats of the images each time."""
    erase_prob: Probability
    """Probability that a rectangle of the image is erased."""
    erase_mode: Literal["pixel", "const"] = "pixel"
    """Fill of the rectangle: normal noise for each pixel, or the mean colour."""
    erase_count: PositiveInt = 1
    """Most rectangles in an erased image; their number is drawn, and they share the area of one."""
    mixup: Annotated[float, Field(ge=0)]
    """Alpha of mixup's Beta distribution; 0 turns it off."""
    cutmix: Annotated[float, Field(ge=0)]
    """Alpha of CutMix's Beta distribution; 0 turns it off. With both on, each mixed batch draws one."""
    mix_prob: Probability = 1.0
    """Share of batches that are mixed where mixup or cutmix is on."""
    cutmix_share: Probability = 0.5
    """Share of CutMix among the mixed batches where both are on."""
    mix_epochs: PositiveInt | None = None
    """First epochs, which mix; the later ones do not. null: all mix."""

    @model_validator(mode="after")
    def _one_policy_at_a_time(self) -> Self:
        if self.trivialaugment and self.randaugment is not None:
            raise ValueError("trivialaugment takes the place of randaugment, which should be null then")
        return self

    @model_validator(mode="after")
    def _ranges_ascend(self) -> Self:
        for key, (low, high) in {"crop_scale": self.crop_scale, "crop_ratio": self.crop_ratio}.items():
            if low > high:
                raise ValueError(f"{key} should be [smallest, largest], not [{low:g}, {high:g}]")
        return self
