"""Every key of a configuration: its type, bounds and meaning.

Values that belong to a recipe (learning rate, epochs, augmentation) have no default: they live in
YAML. Mechanics (workers, logging) have their default here, and nowhere else.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from rexnet.config.data_schema import AugmentationConfig, DataConfig, EvalTransformConfig
from rexnet.config.section import Count, PositiveFloat, PositiveInt, Role, Section


def _default(section: BaseModel, key: str) -> object:
    return type(section).model_fields[key].default


class ModelConfig(Section):
    """The network."""

    name: Annotated[str, Field(pattern=r"^(rexnet|timm/[\w.-]+)$")]
    """`rexnet`, or `timm/NAME` for any classifier of timm."""
    width_mult: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Channel multiplier of ReXNet (0.9 to 3.0 were published)."""
    variant: Literal["v1", "lite", "r"] = "v1"
    """`v1`; `lite`: the authors' network without squeeze-and-excitation, with ReLU6; `r`: timm's, with channels rounded
    for tensor cores."""
    depth_mult: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Multiplier of ReXNet's number of blocks."""
    use_se: bool | None = None
    """Squeeze-and-excitation in ReXNet; null: as in the variant."""
    se_ratio: Annotated[float, Field(ge=0, le=1)] = 1 / 12
    """Width of squeeze-and-excitation's bottleneck relative to the expanded channels."""
    activation: Literal["silu", "relu6", "relu", "leaky_relu", "elu", "softplus", "hardswish"] | None = None
    """What follows ReXNet's widening convolutions; null: SiLU, and ReLU6 in the lite variant."""
    channel_divisor: PositiveInt | None = None
    """Every width of ReXNet is a multiple of it; null: 1 for v1, 8 for lite and r."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Dropout probability before the classifier."""
    drop_path: Annotated[float, Field(ge=0, lt=1)]
    """Stochastic depth of the last residual block; it grows linearly from 0 at the first."""
    grad_checkpointing: bool = False
    """Compute each block again in the backward pass instead of keeping its maps: less memory, a third more time."""
    own_preprocessing: bool = True
    """Whether a `timm/` network gets the mean, std, interpolation and central crop that it has in timm, whatever
    `data` and `eval_transform` say."""
    pretrained: str | None = None
    """Weights to start from: a file (.pth, .safetensors, .ckpt), `https://…#sha256=…`, or a name on the Hugging Face
    hub such as `nav_in1k`."""

    @model_validator(mode="after")
    def _shape_belongs_to_rexnet(self) -> Self:
        shape = {"width_mult", "variant", "depth_mult", "use_se", "se_ratio", "activation", "channel_divisor"}
        changed = [key for key in type(self).model_fields if key in shape and getattr(self, key) != _default(self, key)]
        if self.name != "rexnet" and changed:
            raise ValueError(f"{changed[0]} is for rexnet only; {self.name} has no {changed[0]}")
        return self


class LossConfig(Section):
    """The training loss. Validation always measures plain cross-entropy."""

    name: Literal["cross_entropy", "binary_cross_entropy"] = "cross_entropy"
    """`binary_cross_entropy` treats each class as a yes-or-no question (arXiv 2110.00476) and averages over classes."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    """Share of the target that is spread evenly over all classes."""
    class_weights: Literal["none", "balanced"] | tuple[PositiveFloat, ...] = "none"
    """Weight of each class in the loss: `balanced` is inversely proportional to its number of training images, with
    mean 1 over the images; a list gives one weight per class in the order of the class names."""


class OptimizerConfig(Section):
    """The optimizer and its learning rates."""

    name: Annotated[Literal["sgd", "adamw"], Role.FIXED]
    """SGD with Nesterov momentum, or AdamW."""
    lr: Annotated[float, Field(gt=0)]
    """Peak learning rate, for the whole `data.batch_size`."""
    weight_decay: Annotated[float, Field(ge=0)]
    """Decay of convolution and linear weights; normalisation layers and biases have none."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD; first beta of AdamW."""
    clip_grad: Annotated[float, Field(gt=0)] | None = None
    """Largest L2 norm of the gradient; null: not clipped."""
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

    accelerator: Annotated[Literal["auto", "cpu", "gpu"], Role.MECHANICS] = "auto"
    """Where to compute; `auto` takes GPUs if there are any."""
    devices: Annotated[Literal["auto"] | PositiveInt, Role.MECHANICS] = "auto"
    """Processes on each node, one a device; `auto`: all GPUs, or one process on the CPU."""
    num_nodes: Annotated[PositiveInt, Role.MECHANICS] = 1
    """Machines in the run."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of convolutions; `auto`: bf16 where the hardware has it, else fp16 on GPUs and fp32 on CPUs."""
    channels_last: Literal["auto"] | bool = "auto"
    """Memory layout NHWC; `auto`: everywhere but for fp32 on GPUs."""
    accumulate: Literal["auto"] | PositiveInt = 1
    """Micro-batches per optimizer step on each device (gradient accumulation); `auto` finds the smallest number that
    fits into GPU memory before the first step and writes it into the run's config."""
    sync_batchnorm: bool = False
    """Compute BatchNorm statistics over all devices."""
    compile: bool = False
    """Compile the network with torch.compile."""
    deterministic: bool = False
    """Use only algorithms that give the same bits in each run (slower on GPUs)."""
    val_every_epochs: PositiveInt = 1
    """Epochs between validations, which are also when `last.ckpt` is saved; it divides the schedule's epochs."""
    log_every_steps: Annotated[PositiveInt, Role.MECHANICS] = 50
    """Optimiser steps between log entries; skipped steps are reported there too."""
    keep_best: Annotated[PositiveInt, Role.MECHANICS] = 3
    """Checkpoints kept with the best validation top-1, beside the last one."""
    early_stopping_patience: Annotated[PositiveInt | None, Role.MECHANICS] = None
    """Stop after so many validations without a better top-1; null: never."""
    max_steps: Annotated[PositiveInt | None, Role.MECHANICS] = None
    """Stop after so many optimiser steps, with the schedule as configured; null: at the schedule's end."""
    max_bad_steps: Annotated[PositiveInt, Role.MECHANICS] = 10
    """Steps in a row, skipped because their loss or gradient is NaN or infinite, after which the run stops."""
    report: Annotated[bool, Role.MECHANICS] = True
    """Write `report.html` into the run's folder when `rexnet train` has ended, which measures the best checkpoint."""
    pictures_every_epochs: Annotated[PositiveInt | None, Role.MECHANICS] = 20
    """Epochs between TensorBoard's confusion matrix, wrong images, precision-recall curves and accuracy by class, at a
    validation; the last epoch always has them. null: none."""
    loggers: Annotated[tuple[Literal["csv", "wandb", "mlflow"], ...], Role.MECHANICS] = ()
    """More of Lightning's loggers beside TensorBoard's; `wandb` and `mlflow` need the package of that name."""
    runs_dir: Annotated[Path, Role.MECHANICS] = Path("runs")
    """Folder that receives the run's own folder `NAME-TIME`."""

    @property
    def micro_batches(self) -> int:
        """Micro-batches per optimizer step; 1 while `auto` is not resolved."""
        return 1 if self.accumulate == "auto" else self.accumulate


class Config(Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80), Role.MECHANICS]
    """First part of the run folder's name."""
    seed: Annotated[int, Field(ge=0, lt=2**63), Role.FIXED] = 0
    """Origin of all randomness: initial weights, order, augmentation, dropout."""
    model: Annotated[ModelConfig, Role.FIXED]
    data: DataConfig
    eval_transform: EvalTransformConfig
    augmentation: AugmentationConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    ema: Annotated[EmaConfig | None, Role.FIXED]
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
