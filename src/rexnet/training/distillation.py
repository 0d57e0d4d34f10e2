"""Knowledge distillation: the network also learns the answers or the features of a trained one, the teacher."""

import copy
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the common name

from rexnet.checkpoints.checkpoint import load_trained
from rexnet.class_names import match_classes
from rexnet.config.data_schema import DataConfig
from rexnet.config.schema import PRETRAINED, DistillationConfig
from rexnet.data.sources.image_files import join_names
from rexnet.errors import ConfigError, RexnetError, first_sentence
from rexnet.evaluation.timm_networks import load_timm
from rexnet.models.cost import Cost, count_cost
from rexnet.models.folding import fold_batchnorm
from rexnet.models.padding import pad_channels
from rexnet.preprocessing import Preprocessing
from rexnet.system.device import Device

TIMM = "timm/"


class Teacher(nn.Module):
    """Maps the student's training images (N, 3, H, W) to float32 logits (N, classes) in the order of `rows`.

    It takes no gradients, computes in evaluation mode in the precision of the training, and follows the images to their
    device.
    """

    scale: Tensor
    shift: Tensor
    rows: Tensor

    def __init__(
        self, network: nn.Module, own: Preprocessing, data: DataConfig, rows: Sequence[int], image_size: int | None
    ) -> None:
        super().__init__()
        self.network = network
        self.image_size = image_size
        own_mean, own_std, mean, std = (
            torch.tensor(values).view(3, 1, 1) for values in (own.mean, own.std, data.mean, data.std)
        )
        self.register_buffer("scale", std / own_std)
        self.register_buffer("shift", (mean - own_mean) / own_std)
        self.register_buffer("rows", torch.tensor(rows, dtype=torch.long))
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        if self.rows.device != images.device:
            self.to(images.device)
        images = images * self.scale + self.shift
        if self.image_size is not None:
            images = F.interpolate(images, size=(self.image_size, self.image_size), mode="bilinear", antialias=True)
        logits: Tensor = self.network(images)
        return logits.float().index_select(1, self.rows)


class FeatureTap:
    """Keeps what enters a network's classifier in each forward pass: the pooled features (N, channels)."""

    def __init__(self, network: nn.Module) -> None:
        self.features = torch.empty(0)
        network.get_classifier().register_forward_pre_hook(self)  # type: ignore[operator]

    def __call__(self, classifier: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features = inputs[0].flatten(1)


class Distillation:
    """The teacher and its part of the loss: no module, so that checkpoints, EMA, optimizer and DDP do not hold it."""

    def __init__(self, config: DistillationConfig, teacher: Teacher, cost: str) -> None:
        self.config, self.teacher = config, teacher
        self.cost = cost
        """The teacher and its cost in words."""
        self.taps: tuple[FeatureTap, ...] = ()

    def watch(self, student: nn.Module) -> None:
        """Prepares to compare the features of both networks, if they have a part in the loss."""
        if self.config.feature_weight:
            self.taps = FeatureTap(student), FeatureTap(self.teacher.network)

    def combine(self, loss: Tensor, logits: Tensor, taught: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the sum of the ordinary loss and that of `taught`, the teacher's logits, and its weighted terms."""
        weight = self.config.weight
        parts = {"label_loss": (1 - weight) * loss}
        if weight:
            parts["teacher_loss"] = weight * imitation_loss(logits, taught, self.config)
        if self.taps:
            distance = feature_distance(*(tap.features for tap in self.taps))
            parts["feature_loss"] = self.config.feature_weight * distance
        return torch.stack([*parts.values()]).sum(), parts


def imitation_loss(logits: Tensor, taught: Tensor, config: DistillationConfig) -> Tensor:
    """Returns the mean over images of the distance of logits from the teacher's, both (N, classes).

    Soft: the divergence KL(teacher || student) of the probabilities at a temperature, times its square, so that the
    gradient does not depend on it (arXiv 1503.02531). Hard: cross-entropy with the teacher's answer (arXiv 2012.12877).
    """
    if config.kind == "hard":
        return F.cross_entropy(logits.float(), taught.argmax(1))
    student, teacher = ((each.float() / config.temperature).log_softmax(1) for each in (logits, taught))
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * config.temperature**2


def feature_distance(features: Tensor, taught: Tensor) -> Tensor:
    """Returns the mean over images of 1 - cosine similarity; the wider features are averaged to the others' width."""
    width = min(features.shape[1], taught.shape[1])
    student, teacher = (
        each.float() if each.shape[1] == width else F.adaptive_avg_pool1d(each.float(), width)
        for each in (features, taught)
    )
    return 1 - F.cosine_similarity(student, teacher).mean()


def load_distillation(
    config: DistillationConfig,
    student: nn.Module,
    initial: nn.Module,
    class_names: Sequence[str],
    data: DataConfig,
    device: Device,
) -> Distillation:
    """Loads the teacher of a student.

    Args:
        config: the teacher and its part of the loss.
        student: on the CPU.
        initial: the student before its training, as the teacher `pretrained`.
        class_names: the student's classes.
        data: size, mean and std of the student's images.
        device: where both will compute.

    Raises:
        ConfigError: the teacher is missing, damaged, no classifier, lacks a class, or is not the one of
            `teacher_sha256`.
    """
    source = config.teacher
    try:
        network, own, names = _load_teacher(source, initial, data)
    except RexnetError as error:
        raise ConfigError(f"distillation.teacher: {error}") from None
    found = sha256_of_weights(network)
    if config.teacher_sha256 not in (None, found):
        raise ConfigError(
            f"distillation.teacher: the weights of {source} have the sha256 {found}, not {config.teacher_sha256}; give "
            f"the teacher that distillation.teacher_sha256 means, or set that to null"
        )
    rows = _match_classes(source, class_names, names, len(own.class_names)) if config.weight else []
    size = config.image_size or data.image_size
    try:
        theirs, mine = _cost(network, size), _cost(student, data.image_size)
    except (AssertionError, RuntimeError) as error:  # transformers of timm have one size
        raise ConfigError(
            f"distillation.image_size: {source} does not take images of {size} px ({first_sentence(error)}); set it to "
            f"{own.image_size}"
        ) from None
    cost = (
        f"Teacher {source}: {theirs.params / 1e6:.2f} M parameters; {theirs.macs / 1e9:.2g} G multiply-adds an image "
        f"at {size} px add {theirs.macs / mine.macs / 3:.0%} to a training step of the student (three forward passes, "
        f"{3 * mine.macs / 1e9:.2g} G)"
    )
    network = pad_channels(fold_batchnorm(network), device.pad_channels).to(memory_format=device.memory_format)
    teacher = Teacher(network, own, data, rows, config.image_size)
    return Distillation(config.model_copy(update={"teacher_sha256": found}), teacher, cost)


def _load_teacher(
    source: str, initial: nn.Module, data: DataConfig
) -> tuple[nn.Module, Preprocessing, Sequence[str] | None]:
    """Returns the network, its preprocessing and the classes that it knows; None: those of ImageNet."""
    if source == PRETRAINED:
        network = copy.deepcopy(initial)
        for parameter in network.get_classifier().parameters():  # type: ignore[operator]
            nn.init.zeros_(parameter)  # it teaches nothing, and the sha256 should not depend on the seed
        return network, Preprocessing(data.image_size, 1.0, "bilinear", data.mean, data.std, ()), ()
    if source.startswith(TIMM) and not Path(source).exists():
        return *load_timm(source.removeprefix(TIMM)), None
    trained = load_trained(Path(source))
    return trained.model, trained.preprocessing, trained.class_names


def _match_classes(source: str, wanted: Sequence[str], names: Sequence[str] | None, classes: int) -> list[int]:
    """Returns the teacher's row of each class."""
    row_of = dict(match_classes(wanted, names, classes))
    taken = Counter(row_of.values())
    if missing := [name for row, name in enumerate(wanted) if taken[row_of.get(row, -1)] != 1]:
        raise ConfigError(
            f"distillation.teacher: {source} knows {len(wanted) - len(missing)} of the {len(wanted)} classes by name "
            f"and lacks {join_names(missing)}; fine-tune it on these images first, or set distillation.weight=0 "
            f"for its features only"
        )
    return [row_of[row] for row in range(len(wanted))]


def sha256_of_weights(network: nn.Module) -> str:
    """Returns the sha256 of a network's tensors on the CPU with their names, whatever file they come from."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _cost(network: nn.Module, image_size: int) -> Cost:
    return count_cost(copy.deepcopy(network).to("meta"), image_size)
