"""The sections of a detector's configuration; a file with a section `detector` configures one."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rexnet.config.data_schema import BatchConfig
from rexnet.config.schema import RunConfig
from rexnet.config.section import FilePath, PositiveInt, Probability, Role, Section


class DetectorConfig(Section):
    """The detector of torchvision on top of `model`, which is its backbone."""

    name: Annotated[Literal["ssdlite", "faster_rcnn", "mask_rcnn"], Role.FIXED]
    """`ssdlite` at a fixed size; `faster_rcnn` and `mask_rcnn` with a feature pyramid (FPN)."""
    trainable_layers: Annotated[int, Field(ge=0, le=5)] = 5
    """Number of feature levels of the backbone that are trained, from the last; 5: the whole backbone."""
    norm: Annotated[Literal["batch", "frozen"], Role.FIXED] = "batch"
    """Normalization of the backbone: BatchNorm (see `trainer.sync_batchnorm`), or BatchNorm with frozen statistics."""
    max_size: Annotated[int, Field(ge=16, le=8192)] = 1333
    """Largest long side of an image in the R-CNNs, which resize the short side to `data.image_size`."""
    weights: Annotated[FilePath | None, Role.MECHANICS] = None
    """File with the weights of a whole detector to start from; its backbone needs no `model.pretrained` then."""
    score_threshold: Probability | None = None
    """Smallest score of a detection; null: torchvision's, 0.001 for SSDLite and 0.05 for the R-CNNs."""
    nms_threshold: Probability | None = None
    """Overlap (IoU) above which non-maximum suppression keeps only the better box of a class; null: torchvision's,
    0.55 for SSDLite and 0.5 for the R-CNNs."""
    max_detections: PositiveInt | None = None
    """Most detections of an image; null: torchvision's, 300 for SSDLite and 100 for the R-CNNs."""


class DetectionDataConfig(BatchConfig):
    """The images and their boxes."""

    dataset: Annotated[Literal["coco", "coco2017", "voc", "cub200"], Role.FIXED]
    """Form of the annotations: COCO JSON, all of COCO 2017 as published, Pascal VOC XML, or CUB-200-2011 with one class
    for each species."""
    train_annotations: str | None = None
    """Annotations of the training images: for `coco` a file below `root`, for `voc` the name of a list in
    ImageSets/Main; null: the first of the usual names that exists."""
    val_annotations: str | None = None
    """Annotations of the validation images, likewise."""
    train_images: str | None = None
    """Folder of the training images below `root`, for `coco`; null: `root` with `train_annotations`, else the usual."""
    val_images: str | None = None
    """Folder of the validation images, likewise."""
    on_bad_box: Literal["error", "drop"] = "error"
    """Treatment of annotations that cannot be used, such as boxes without area: an error, or leave them out."""
    on_missing_image: Literal["error", "drop"] = "error"
    """Treatment of annotated images without a file."""
    train_on_empty: bool = True
    """Also train on images without objects."""
    group_by_aspect: bool = False
    """Fill each training batch with images of similar aspect ratio, which need less padding in the R-CNNs."""


class DetectionAugmentationConfig(Section):
    """Random transforms of the training images with their boxes."""

    flip: Probability
    """Probability of a horizontal flip."""
    color_jitter: Annotated[float, Field(ge=0, le=1)]
    """Largest relative change of brightness, contrast and saturation."""
    crop: Literal["none", "ssd", "resized"] = "none"
    """`ssd`: a crop that overlaps an object by a random amount (arXiv 1512.02325); `resized`: a random crop that keeps
    at least one object."""
    crop_scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.3, 1.0)
    """Smallest and largest fraction of the image's area that a `resized` crop covers."""


class DetectionConfig(RunConfig):
    """The configuration of a detector's run."""

    detector: DetectorConfig
    data: DetectionDataConfig
    augmentation: DetectionAugmentationConfig

    @model_validator(mode="after")
    def _training_is_plain(self) -> Self:
        if self.trainer.accumulate == "auto":
            raise ValueError("trainer.accumulate: auto is for classifiers; give a number")
        if self.trainer.compile:
            raise ValueError("trainer.compile is for classifiers; the shapes of a detector change in every step")
        if self.optimizer.freeze_backbone_epochs and self.detector.trainable_layers < 5:
            raise ValueError("optimizer.freeze_backbone_epochs needs detector.trainable_layers=5: both freeze layers")
        return self
