"""Every key of a configuration: its type, bounds and meaning.

Values that belong to a recipe (learning rate, epochs, augmentation) have no default: they live in
YAML. Mechanics (workers, logging) have their default here, and nowhere else.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Probability = Annotated[float, Field(ge=0, le=1)]
Interpolation = Literal["bilinear", "bicubic"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _refuse_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number, not true or false")
    return value


PositiveFloat = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, BeforeValidator(_refuse_bool), Field(ge=1)]
Count = Annotated[int, BeforeValidator(_refuse_bool), Field(ge=0)]


class Section(BaseModel):
    """Base of all sections: unknown keys, infinities and later changes are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )


class ModelConfig(Section):
    """The network."""

    name: Annotated[str, Field(pattern=r"^(rexnet|timm/[\w.-]+)$")]
    """`rexnet`, or `timm/NAME` for any classifier of timm."""
    width_mult: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Channel multiplier of ReXNet (0.9 to 3.0 were published)."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Dropout probability before the classifier."""
    drop_path: Annotated[float, Field(ge=0, lt=1)]
    """Stochastic depth of the last residual block; it grows linearly from 0 at the first."""
    pretrained: str | None = None
    """Weights to start from: a file (.pth, .safetensors, .ckpt), or a name on the Hugging Face hub such as
    `nav_in1k`."""

    @model_validator(mode="after")
    def _width_belongs_to_rexnet(self) -> Self:
        if self.name != "rexnet" and self.width_mult != 1.0:
            raise ValueError(f"width_mult is for rexnet only; {self.name} has no width")
        return self


class DataConfig(Section):
    """The images, and how many of them make a step."""

    dataset: Literal["folder", "cub200", "digits"]
    """Layout on disk: class folders under train/ and val/; CUB-200-2011 as published; the handwritten digits of
    scikit-learn, written to `root` on first use."""
    root: Path
    """Folder of the data set."""
    image_size: Annotated[int, Field(ge=16, le=4096)]
    """Side of the square that the network sees, in pixels."""
    batch_size: PositiveInt
    """Images in one optimiser step, over all devices and accumulated parts together."""
    last_batch: Literal["drop", "pad"] = "drop"
    """What becomes of an epoch's last, incomplete training batch: dropped, or filled from the epoch's start."""
    num_workers: Count | None = None
    """Loader processes for each device; null: one for each core that the device has to itself, 16 at most."""
    persistent_workers: bool = True
    """Keep loader processes from one epoch to the next."""
    start_method: Literal["fork", "forkserver", "spawn"] | None = None
    """How loader processes are started; null: Python's own choice."""
    worker_timeout: Annotated[float, Field(gt=0)] = 600.0
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
    erase_prob: Probability
    """Probability that a rectangle of the image is erased."""
    erase_mode: Literal["pixel", "const"] = "pixel"
    """Fill of the rectangle: normal noise for each pixel, or the mean colour."""
    mixup: Annotated[float, Field(ge=0)]
    """Alpha of mixup's Beta distribution; 0 turns it off."""
    cutmix: Annotated[float, Field(ge=0)]
    """Alpha of CutMix's Beta distribution; 0 turns it off. With both on, each batch draws one."""
    mix_prob: Probability = 1.0
    """Share of batches that are mixed where mixup or cutmix is on."""

    @model_validator(mode="after")
    def _ranges_ascend(self) -> Self:
        for key, (low, high) in {"crop_scale": self.crop_scale, "crop_ratio": self.crop_ratio}.items():
            if low > high:
                raise ValueError(f"{key} should be [smallest, largest], not [{low:g}, {high:g}]")
        return self


class OptimizerConfig(Section):
    """The loss and how its gradient becomes a step."""

    name: Literal["sgd", "adamw"]
    """SGD with Nesterov momentum, or AdamW."""
    lr: Annotated[float, Field(gt=0)]
    """Peak learning rate, for the whole `data.batch_size`."""
    weight_decay: Annotated[float, Field(ge=0)]
    """Decay of convolution and linear weights; normalisation layers and biases have none."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD; first beta of AdamW."""
    clip_grad: Annotated[float, Field(gt=0)] | None = None
    """Largest L2 norm of the gradient; null: not clipped."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    """Share of the target spread evenly over all classes."""
    backbone_lr_factor: Annotated[float, Field(gt=0)] = 1.0
    """Learning rate of everything but the classifier, relative to `lr`."""
    freeze_backbone_epochs: Count = 0
    """First epochs in which only the classifier learns."""


class ScheduleConfig(Section):
    """The learning rate over a run: linear warm-up, half a cosine, constant cool-down."""

    epochs: PositiveInt
    """Epochs of warm-up and cosine together."""
    warmup_epochs: Annotated[float, Field(ge=0)]
    """Epochs of linear growth from `warmup_lr` to `optimizer.lr`."""
    warmup_lr: Annotated[float, Field(ge=0)]
    """Learning rate of the very first step."""
    min_lr: Annotated[float, Field(ge=0)]
    """Learning rate at the end of the cosine and during the cool-down."""
    cooldown_epochs: Count
    """Epochs at `min_lr` after the cosine."""

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole run."""
        return self.epochs + self.cooldown_epochs

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs should be below epochs ({self.epochs}), not {self.warmup_epochs:g}")
        return self


class EmaConfig(Section):
    """Exponential moving average of the weights, measured beside the raw ones."""

    decay: Annotated[float, Field(gt=0, lt=1)]
    """Final decay; step t uses min(decay, (1 + t) / (10 + t)), so that early weights are forgotten."""


class TrainerConfig(Section):
    """The machine, the log and the files of a run: mechanics that leave the recipe as it is."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to compute; `auto` takes GPUs if there are any."""
    devices: Literal["auto"] | PositiveInt = "auto"
    """Processes on each node, one a device; `auto`: all GPUs, or one process on the CPU."""
    num_nodes: PositiveInt = 1
    """Machines in the run."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of convolutions; `auto`: bf16 where the hardware has it, else fp16 on GPUs and fp32 on CPUs."""
    channels_last: Literal["auto"] | bool = "auto"
    """Memory layout NHWC; `auto`: on, except for ReXNet on GPUs, whose odd channel counts lose by it."""
    accumulate: PositiveInt = 1
    """Parts into which a device's share of a batch is split, one after the other, where memory is short."""
    sync_batchnorm: bool = False
    """Compute BatchNorm statistics over all devices."""
    compile: bool = False
    """Compile the network with torch.compile."""
    deterministic: bool = False
    """Use only algorithms that give the same bits in each run (slower on GPUs)."""
    val_every_epochs: PositiveInt = 1
    """Epochs between validations, which are also when `last.ckpt` is saved; it divides the schedule's epochs."""
    log_every_steps: PositiveInt = 50
    """Optimiser steps between log entries; skipped steps are reported there too."""
    keep_best: PositiveInt = 3
    """Checkpoints kept with the best validation top-1, beside the last one."""
    early_stopping_patience: PositiveInt | None = None
    """Stop after so many validations without a better top-1; null: never."""
    max_steps: PositiveInt | None = None
    """Stop after so many optimiser steps, with the schedule as configured; null: at the schedule's end."""
    max_bad_steps: PositiveInt = 10
    """Steps in a row, skipped because their loss or gradient is NaN or infinite, after which the run stops."""
    runs_dir: Path = Path("runs")
    """Folder that receives the run's own folder `NAME-TIME`."""


class Config(Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
    """First part of the run folder's name."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Origin of all randomness: initial weights, order, augmentation, dropout."""
    model: ModelConfig
    data: DataConfig
    eval_transform: EvalTransformConfig
    augmentation: AugmentationConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    ema: EmaConfig | None
    """Moving average of the weights, or null for none."""
    trainer: TrainerConfig = TrainerConfig()

    @model_validator(mode="after")
    def _the_last_epoch_is_measured(self) -> Self:
        epochs, every = self.schedule.total_epochs, self.trainer.val_every_epochs
        if epochs % every:
            raise ValueError(f"trainer.val_every_epochs ({every}) should divide the {epochs} epochs of the schedule")
        return self

    @model_validator(mode="after")
    def _rates_descend(self) -> Self:
        for key, rate in {"warmup_lr": self.schedule.warmup_lr, "min_lr": self.schedule.min_lr}.items():
            if rate > self.optimizer.lr:
                raise ValueError(f"schedule.{key} ({rate:g}) should not exceed optimizer.lr ({self.optimizer.lr:g})")
        return self
