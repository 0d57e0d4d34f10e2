"""The sections of a detector's configuration; a file with a section `detector` configures one."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rexnet.config.data_schema import BatchConfig
from rexnet.config.schema import RunConfig
from rexnet.config.section import FilePath, PositiveInt, Probability, Role, Section


class DetectorConfig(Section):
    """A torchvision detector with `model` as its backbone."""

    name: Annotated[Literal["ssdlite", "faster_rcnn", "mask_rcnn"], Role.FIXED]
    """`ssdlite` with a fixed image size; `faster_rcnn` and `mask_rcnn` with a feature pyramid (FPN)."""
    trainable_layers: Annotated[int, Field(ge=0, le=5)] = 5
    """Number of feature levels of the backbone to train, counted from the last; 5: the whole backbone."""
    norm: Annotated[Literal["batch", "frozen"], Role.FIXED] = "batch"
    """Normalization of the backbone: BatchNorm (see `trainer.sync_batchnorm`), or BatchNorm with frozen statistics."""
    max_size: Annotated[int, Field(ge=16, le=8192)] = 1333
    """Maximum long side of an image in the R-CNNs, which resize the short side to `data.image_size`."""
    weights: Annotated[FilePath | None, Role.MECHANICS] = None
    """File with the initial weights of the whole detector, instead of `model.pretrained` for the backbone."""
    score_threshold: Probability | None = None
    """Minimum score of a detection; null: torchvision's, 0.001 for SSDLite and 0.05 for the R-CNNs."""
    nms_threshold: Probability | None = None
    """IoU above which non-maximum suppression removes the box with the lower score; null: torchvision's, 0.55 for
    SSDLite and 0.5 for the R-CNNs."""
    max_detections: PositiveInt | None = None
    """Maximum number of detections per image; null: torchvision's, 300 for SSDLite and 100 for the R-CNNs."""


class DetectionDataConfig(BatchConfig):
    """The images and their boxes."""

    dataset: Annotated[Literal["coco", "coco2017", "voc", "cub200"], Role.FIXED]
    """Format of the annotations: COCO JSON, the complete COCO 2017, Pascal VOC XML, or CUB-200-2011 with one class per
    species."""
    train_annotations: str | None = None
    """Annotations of the training images: for `coco` a file below `root`, for `voc` the name of a list in
    ImageSets/Main; null: the first of the usual names that exists."""
    val_annotations: str | None = None
    """The same for the validation images."""
    train_images: str | None = None
    """For `coco`, folder of training images below `root`; null: `root` with `train_annotations`, else usual names."""
    val_images: str | None = None
    """The same for the validation images."""
    on_bad_box: Literal["error", "drop"] = "error"
    """For annotations that cannot be used, such as boxes without area: stop with an error, or leave them out."""
    on_missing_image: Literal["error", "drop"] = "error"
    """The same for annotated images without a file."""
    train_on_empty: bool = True
    """Also train on images without objects."""
    group_by_aspect: bool = False
    """Fill each training batch with images of similar aspect ratio, which need less padding in the R-CNNs."""


class DetectionAugmentationConfig(Section):
    """Random transforms of the training images with their boxes."""

    flip: Probability
    """Probability of a horizontal flip."""
    color_jitter: Annotated[float, Field(ge=0, le=1)]
    """Maximum relative change of brightness, contrast and saturation."""
    crop: Literal["none", "ssd", "resized"] = "none"
    """`ssd`: a crop with a random minimum overlap with an object (arXiv 1512.02325); `resized`: a random crop that
    contains the center of at least one object."""
    crop_scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.3, 1.0)
    """Smallest and largest fraction of the image's area that a `resized` crop covers."""


class DetectionConfig(RunConfig):
    """The configuration of a detector."""

    detector: DetectorConfig
    data: DetectionDataConfig
    augmentation: DetectionAugmentationConfig

    @model_validator(mode="after")
    def _training_is_plain(self) -> Self:
        for key, value in (("trainer.accumulate", self.trainer.accumulate), ("data.batch_size", self.data.batch_size)):
            if value == "auto":
                raise ValueError(f"{key}: auto is for classifiers; give a number")
        if self.trainer.compile:
            raise ValueError("trainer.compile is for classifiers; a detector's shapes change in every step")
        if self.optimizer.frozen_epochs and self.detector.trainable_layers < 5:
            key = "freeze_backbone_epochs" if self.optimizer.freeze_backbone_epochs else "unfreeze_epochs"
            raise ValueError(f"optimizer.{key} needs detector.trainable_layers=5: both freeze layers")
        return self
