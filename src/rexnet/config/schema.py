"""Every key of a configuration with its type, bounds and meaning.

Values of a recipe (learning rate, epochs, augmentation) have no default: they belong into a YAML file. All other
defaults are defined here and nowhere else.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from rexnet.config.data_schema import MAX_SIZE, AugmentationConfig, BatchConfig, DataConfig, EvalTransformConfig
from rexnet.config.section import Count, FilePath, PositiveFloat, PositiveInt, Role, Section, expand_home

PRETRAINED = "pretrained"  # the student's own initial weights as its teacher
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]


class ModelConfig(Section):
    """The network."""

    name: Annotated[str, Field(pattern=r"^(rexnet|(mobilenet_v1|mobilenet_v2|resnet50|vgg16)_rex|timm/[\w.-]+)$")]
    """`rexnet`; `timm/NAME` for a classifier of timm; or `mobilenet_v1_rex`, `mobilenet_v2_rex`, `resnet50_rex` or
    `vgg16_rex` for a redesign of another network by the principles of ReXNet."""
    width_mult: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Width multiplier of ReXNet; 0.9 to 3.0 were published."""
    variant: Literal["v1", "lite", "r"] = "v1"
    """`v1`: ReXNet as published; `lite`: the authors' variant without squeeze-and-excitation and with ReLU6; `r`:
    timm's variant with channels rounded for tensor cores."""
    depth_mult: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Depth multiplier of ReXNet."""
    use_se: bool | None = None
    """Squeeze-and-excitation in ReXNet; null: as the variant has it."""
    se_ratio: Annotated[float, Field(ge=0, le=1)] = 1 / 12
    """Bottleneck width of squeeze-and-excitation, relative to the expanded channels."""
    activation: Literal["silu", "relu6", "relu", "leaky_relu", "elu", "softplus", "hardswish"] | None = None
    """Activation after ReXNet's expanding convolutions; null: SiLU, or ReLU6 in the lite variant."""
    channel_divisor: PositiveInt | None = None
    """Number that every channel count of ReXNet is a multiple of; null: 1 for v1, 8 for lite and r."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Dropout probability before the classifier."""
    drop_path: Annotated[float, Field(ge=0, lt=1)]
    """Stochastic depth rate of the last residual block; it increases linearly from 0 at the first."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass instead of storing them: less memory, about a third more time."""
    own_preprocessing: bool = True
    """Use the mean, std, interpolation and center crop that timm defines for a `timm/` network, instead of those in
    `data` and `eval_transform`."""
    pretrained: Annotated[str, AfterValidator(expand_home)] | None = None
    """Initial weights: a file (.pth, .safetensors, .ckpt), `https://HOST/FILE#sha256=HEX`, or the tag of weights on
    the Hugging Face hub, such as `nav_in1k`."""

    @property
    def is_of_timm(self) -> bool:
        """True if timm builds the network."""
        return self.name.startswith("timm/")

    @model_validator(mode="after")
    def _shape_belongs_to_rexnet(self) -> Self:
        shape = ("width_mult", "variant", "depth_mult", "use_se", "se_ratio", "activation", "channel_divisor")
        changed = [key for key in shape if getattr(self, key) != type(self).model_fields[key].default]
        if self.name != "rexnet" and changed:
            raise ValueError(f"{changed[0]} is for rexnet only, not for {self.name}")
        return self


class LossConfig(Section):
    """The training loss. Validation always measures plain cross-entropy."""

    name: Literal["cross_entropy", "binary_cross_entropy"] = "cross_entropy"
    """`binary_cross_entropy` treats each class as a binary decision (arXiv 2110.00476) and averages over classes."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    """Probability mass that is spread evenly over all classes."""
    class_weights: Literal["none", "balanced"] | tuple[PositiveFloat, ...] = "none"
    """Class weights of the loss: `balanced` is inversely proportional to the number of training images, with mean 1
    over the images; a list gives one weight per class, in the order of the class names."""


class DistillationConfig(Section):
    """Knowledge distillation: the network also learns from a trained classifier, the teacher, which sees the same
    augmented images (arXiv 2106.05237). Pays off where the teacher is much better than what the images can train.
    """

    teacher: Annotated[str, AfterValidator(expand_home), Role.MECHANICS]
    """A run folder, checkpoint or `.safetensors` of `rexnet export`; `timm/NAME`, `timm/NAME.TAG` or `timm/NAME=FILE`
    with ImageNet's classes; or `pretrained`, the network as `model.pretrained` gives it (weight 0, feature_weight 5).
    Its answers need all classes of the data set, by name; its features (weight 0) do not."""
    teacher_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Sha256 of the teacher's weights; null: any. A run writes down its own, and resumes with these weights only."""
    kind: Literal["soft", "hard"] = "soft"
    """`soft`: KL divergence from the teacher's probabilities (arXiv 1503.02531); `hard`: cross-entropy with its answer
    (arXiv 2012.12877)."""
    temperature: PositiveFloat = 2.0
    """Divisor of both logits in the soft loss; higher ones show more of what the teacher thinks of other classes."""
    weight: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share of the loss that the teacher's answers have; the rest is the ordinary loss, with its label smoothing."""
    feature_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of a third term, 1 - cosine similarity of the features that enter the two classifiers (arXiv 2011.01424);
    0: none. 10 helps most where the teacher was pretrained and images are few."""
    image_size: Annotated[int, Field(ge=16, le=MAX_SIZE)] | None = None
    """Side to which the teacher's images are resized, such as that of its training; null: as the student sees them."""

    @model_validator(mode="before")
    @classmethod
    def _pretrained_has_features_only(cls, values: Any) -> Any:
        is_pretrained = isinstance(values, dict) and values.get("teacher") == PRETRAINED
        return {"weight": 0.0, "feature_weight": 5.0} | values if is_pretrained else values

    @model_validator(mode="after")
    def _temperature_is_soft(self) -> Self:
        if self.kind == "hard" and self.temperature != type(self).model_fields["temperature"].default:
            raise ValueError("temperature is for kind=soft only")
        return self

    @model_validator(mode="after")
    def _teaches_something(self) -> Self:
        if self.weight == self.feature_weight == 0:
            raise ValueError("weight and feature_weight are 0, so the teacher would teach nothing; set one of them")
        if self.teacher == PRETRAINED and self.weight:
            raise ValueError(
                f"teacher={PRETRAINED} has features, but no answers for these classes; leave out weight "
                f"({self.weight:g})"
            )
        return self


class OptimizerConfig(Section):
    """The optimizer, its learning rates and weight decay."""

    name: Annotated[Literal["sgd", "adamw"], Role.FIXED]
    """`sgd` uses Nesterov momentum."""
    lr: Annotated[float, Field(gt=0)]
    """Peak learning rate, for a step of `data.batch_size` images."""
    weight_decay: Annotated[float, Field(ge=0)]
    """Weight decay of convolutions and linear layers; normalization layers and biases have none."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD, or first beta of AdamW."""
    clip_grad: Annotated[float, Field(gt=0)] | None = None
    """Largest L2 norm of the gradient; null: no clipping."""
    sam_rho: PositiveFloat | None = None
    """Radius of sharpness-aware minimization (SAM, arXiv 2010.01412), typically 0.05: the gradient is taken where the
    loss is highest so near, for flatter minima; a step takes about twice as long. null: off."""
    backbone_lr_factor: Annotated[float, Field(gt=0)] = 1.0
    """Learning rate of everything but the classifier, relative to `lr`."""
    layer_decay: Annotated[float, Field(gt=0, le=1), Role.FIXED] = 1.0
    """Learning rate of each layer relative to the next one, down from the classifier (layer-wise learning rate decay,
    arXiv 2106.08254); `backbone_lr_factor` comes on top. 0.7 to 0.9 keep more of pretrained weights; 1: off."""
    freeze_backbone_epochs: Count = 0
    """Number of epochs, from the first, that train only the classifier."""
    unfreeze_epochs: Count = 0
    """Number of epochs, after those, that train only a part of the backbone: its layers are released evenly, from the
    classifier down (gradual unfreezing, arXiv 1801.06146). 0: all at once."""

    @property
    def frozen_epochs(self) -> int:
        """Epochs in which at least a part of the backbone is frozen."""
        return self.freeze_backbone_epochs + self.unfreeze_epochs


class ScheduleConfig(Section):
    """The learning rate schedule: linear warm-up, decay by a cosine, in steps or at the end, constant cool-down."""

    epochs: PositiveInt
    """Epochs of warm-up and decay together."""
    warmup_epochs: Annotated[float, Field(ge=0)]
    """Epochs of linear increase from `warmup_lr` to `optimizer.lr`."""
    warmup_lr: Annotated[float, Field(ge=0)]
    """Learning rate of the first step."""
    min_lr: Annotated[float, Field(ge=0)]
    """Learning rate at the end of the decay and during the cool-down."""
    cooldown_epochs: Count
    """Epochs at `min_lr` after the decay."""
    milestones: tuple[PositiveInt, ...] = ()
    """Epochs after which the learning rate falls to a tenth, instead of the cosine decay."""
    decay_epochs: PositiveInt | None = None
    """Epochs at the end of `epochs` in which the learning rate decays, after a constant peak (WSD, arXiv 2404.06395 and
    2405.18392), so that a run can be continued from its peak to any length; null: cosine from the warm-up on."""

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole run."""
        return self.epochs + self.cooldown_epochs

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs should be below epochs ({self.epochs}), not {self.warmup_epochs:g}")
        if sorted({*self.milestones}) != [*self.milestones] or max(self.milestones, default=0) >= self.epochs:
            raise ValueError(f"milestones should ascend and be below epochs ({self.epochs}), not {self.milestones}")
        if self.decay_epochs is not None and (self.milestones or self.warmup_epochs + self.decay_epochs > self.epochs):
            raise ValueError(
                f"decay_epochs needs milestones=[] and at most the {self.epochs - self.warmup_epochs:g} epochs after "
                f"the warm-up, not {self.decay_epochs}"
            )
        return self


class EmaConfig(Section):
    """Moving average of the network, exponential or of the last epochs, evaluated next to the raw weights."""

    decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Final decay of the exponential moving average; step t uses min(decay, (1 + t) / (10 + t)) to forget the initial
    weights."""
    last_epochs: PositiveInt | None = None
    """Number of last epochs whose final weights are averaged instead (LAWA, arXiv 2306.03241), such as 5 of 20; it
    needs no tuning. Before them, the average is the raw network at the end of each epoch."""

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        if (self.decay is None) == (self.last_epochs is None):
            raise ValueError(f"needs decay ({self.decay}) or last_epochs ({self.last_epochs}), and null for the other")
        return self


class TrainerConfig(Section):
    """Hardware, validation, logging and files of a run."""

    accelerator: Annotated[Literal["auto", "cpu", "gpu"], Role.MECHANICS] = "auto"
    """Device type; `auto`: GPU if there is one."""
    devices: Annotated[Literal["auto"] | PositiveInt, Role.MECHANICS] = "auto"
    """Devices per node, with one process each; `auto`: all GPUs, or one process on the CPU. A launcher overrides it."""
    num_nodes: Annotated[PositiveInt, Role.MECHANICS] = 1
    """Number of machines; a launcher overrides it."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the network; `auto`: bf16 if the hardware supports it, otherwise fp16 on GPUs and fp32 on CPUs."""
    channels_last: Literal["auto"] | bool = "auto"
    """Memory layout NHWC; `auto`: except for fp32 on GPUs."""
    pad_channels: Annotated[Literal["auto", 8, 16, "none"], Role.MECHANICS] = "auto"
    """Widths of ReXNet in memory are padded with zeros to multiples of this number, for tensor cores; files and results
    do not change. `auto`: 8 in bf16 and fp16 on CUDA devices, otherwise none; timm networks are never padded."""
    accumulate: Literal["auto"] | PositiveInt = 1
    """Micro-batches per optimizer step on each device (gradient accumulation); `auto` finds the smallest number that
    fits into GPU memory before the first step and writes it into the run's config."""
    sync_batchnorm: bool = False
    """Compute BatchNorm statistics over all devices."""
    compile: bool = False
    """Compile training steps with torch.compile; validation stays eager, so that evaluation repeats its numbers."""
    cuda_graphs: Annotated[Literal["auto"] | bool, Role.MECHANICS] = "auto"
    """Replay compiled steps as CUDA graphs, which saves kernel launches; `auto`: off, until it has been measured."""
    deterministic: bool = False
    """Use deterministic algorithms only (slower on GPUs)."""
    val_every_epochs: PositiveInt = 1
    """Epochs between validations, which also save `last.ckpt`; a divisor of the schedule's epochs."""
    log_every_steps: Annotated[PositiveInt, Role.MECHANICS] = 50
    """Optimizer steps between log entries."""
    keep_best: Annotated[PositiveInt, Role.MECHANICS] = 3
    """Number of checkpoints with the best validation top-1 to keep, besides the last one."""
    early_stopping_patience: Annotated[PositiveInt | None, Role.MECHANICS] = None
    """Validations without a better top-1 after which training stops; null: never."""
    max_steps: Annotated[PositiveInt | None, Role.MECHANICS] = None
    """Optimizer steps after which training stops, without changing the schedule; null: at the end of the schedule."""
    max_bad_steps: Annotated[PositiveInt, Role.MECHANICS] = 10
    """Consecutive steps skipped for a non-finite loss or gradient after which training stops."""
    report: Annotated[bool, Role.MECHANICS] = True
    """Write `report.html` into the run folder at the end of `rexnet train`, after evaluating the best checkpoint."""
    pictures_every_epochs: Annotated[PositiveInt | None, Role.MECHANICS] = 20
    """Epochs between the validations that send confusion matrix and wrong images to TensorBoard, as the last one always
    does; null: never."""
    loggers: Annotated[tuple[Literal["csv", "wandb", "mlflow"], ...], Role.MECHANICS] = ()
    """Loggers besides TensorBoard; `wandb` and `mlflow` need the package of that name."""
    runs_dir: Annotated[FilePath, Role.MECHANICS] = Path("runs")
    """Parent of the run folder, which is named `NAME-TIME`."""
    run_name: Annotated[RunName | None, Role.MECHANICS] = None
    """Name of the run folder, instead of `NAME-TIME`. If it has a checkpoint, the run resumes; the same command starts
    and resumes it."""

    @property
    def micro_batches(self) -> int:
        """Micro-batches per optimizer step; 1 while `auto` is not resolved."""
        return 1 if self.accumulate == "auto" else self.accumulate

    @model_validator(mode="after")
    def _graphs_are_compiled(self) -> Self:
        if self.cuda_graphs is True and not self.compile:
            raise ValueError("cuda_graphs needs compile=true")
        return self


class RunConfig(Section):
    """The part of a configuration that all tasks share: all that training, run folders and resuming know of it."""

    name: Annotated[RunName, Role.MECHANICS]
    """First part of the name of the run folder."""
    seed: Annotated[int, Field(ge=0, lt=2**63), Role.FIXED] = 0
    """Seed of initial weights, sample order, augmentation and dropout."""
    model: Annotated[ModelConfig, Role.FIXED]
    data: BatchConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    ema: Annotated[EmaConfig | None, Role.FIXED]
    """Moving average of the weights; null: none."""
    trainer: TrainerConfig = TrainerConfig()

    @property
    def training_sizes(self) -> tuple[int, ...]:
        """Side of the training images in each epoch, in pixels."""
        return (self.data.image_size,) * self.schedule.total_epochs

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        epochs, every = self.schedule.total_epochs, self.trainer.val_every_epochs
        if epochs % every:
            raise ValueError(f"trainer.val_every_epochs ({every}) should divide the {epochs} epochs of the schedule")
        if self.ema is not None and (self.ema.last_epochs or 0) > epochs:
            raise ValueError(f"ema.last_epochs ({self.ema.last_epochs}) should not exceed the {epochs} epochs")
        frozen, unfrozen = self.optimizer.freeze_backbone_epochs, self.optimizer.unfreeze_epochs
        if unfrozen and frozen + unfrozen >= epochs:
            raise ValueError(
                f"optimizer.unfreeze_epochs ({unfrozen}, after {frozen} frozen ones) should end before the {epochs} "
                f"epochs of the schedule, so that all layers are trained"
            )
        for key, rate in {"warmup_lr": self.schedule.warmup_lr, "min_lr": self.schedule.min_lr}.items():
            if rate > self.optimizer.lr:
                raise ValueError(f"schedule.{key} ({rate:g}) should not exceed optimizer.lr ({self.optimizer.lr:g})")
        settings = self.trainer
        if self.optimizer.sam_rho is not None and (settings.accumulate != 1 or settings.cuda_graphs is True):
            key = "cuda_graphs=false" if settings.accumulate == 1 else f"accumulate=1, not {settings.accumulate}"
            raise ValueError(f"optimizer.sam_rho needs trainer.{key}: each batch passes twice through the network")
        return self


class Config(RunConfig):
    """The configuration of a classifier's run."""

    data: DataConfig
    eval_transform: EvalTransformConfig
    augmentation: AugmentationConfig
    loss: LossConfig
    distillation: DistillationConfig | None = None
    """Knowledge distillation from a teacher; null: none."""

    @property
    def training_sizes(self) -> tuple[int, ...]:
        sizes, schedule = self.augmentation.image_size, self.schedule
        return super().training_sizes if sizes is None else sizes.by_epoch(schedule.epochs, schedule.total_epochs)

    @model_validator(mode="after")
    def _teacher_exists(self) -> Self:
        if self.distillation and self.distillation.teacher == PRETRAINED and self.model.pretrained is None:
            raise ValueError(
                f"distillation.teacher={PRETRAINED} needs model.pretrained; without, set distillation=null"
            )
        return self

    @model_validator(mode="after")
    def _sizes_fit_schedule(self) -> Self:
        sizes, epochs = self.augmentation.image_size, self.schedule.total_epochs
        if sizes is not None and sizes.epochs is not None and sizes.epochs >= epochs:
            raise ValueError(f"augmentation.image_size.epochs ({sizes.epochs}) should be below the schedule's {epochs}")
        return self
