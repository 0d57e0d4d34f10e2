"""Loads anything that classifies images, for evaluation and prediction.

| source | loaded as |
| --- | --- |
| a run folder, a `.ckpt`, a `.safetensors` of `rexnet export` | the network |
| an `.onnx` of `rexnet export` | the exported graph, on the CPU |
| `timm/NAME`, `timm/NAME.TAG` | a network of timm with its ImageNet-1k weights from the Hugging Face hub |
| `timm/NAME=FILE` | the same with the weights of a file |
"""

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from rexnet.checkpoints.checkpoint import Trained, WeightsKind, load_trained, parse_description, require_weights
from rexnet.checkpoints.temperature import require_fitted
from rexnet.config import Config
from rexnet.config.data_schema import LoaderConfig
from rexnet.config.schema import TrainerConfig
from rexnet.data.augment.batch import normalize
from rexnet.data.loaders import LoaderSettings, eval_batch_size, resolve_loader
from rexnet.errors import CheckpointError, ConfigError
from rexnet.evaluation.timm_networks import load_timm
from rexnet.export.reading import OnnxGraph, open_onnx
from rexnet.models.folding import fold_batchnorm
from rexnet.models.padding import pad_channels
from rexnet.preprocessing import Preprocessing
from rexnet.runs.checkpoint_files import run_of
from rexnet.system.device import Device, adapt_to_hardware, resolve_device

log = logging.getLogger(__name__)

COMPILED_FROM = 4_000_000
"""Images per GPU from which compiling pays off: on an H200, ReXNet 1.0x folded in bf16 classifies 20,600 images/s and,
compiled, 41,600, so the 60 to 140 s of compiling are won back after 2.5 to 5.7 million."""
TIMM = "timm/"
TIMM_BATCH = 64
SMALLEST = torch.finfo(torch.float32).tiny

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class InferenceModel:
    """A classifier of RGB bytes that `build_eval_transform` of its preprocessing has resized and cropped."""

    name: str
    """The run, file or timm network, for tables."""
    preprocessing: Preprocessing
    loader: LoaderSettings
    batch_size: int
    """Images per evaluation batch; the batch of training's validation, so that logits agree to the last bit."""
    logits: Logits
    """Maps uint8 (N, H, W, 3) on any device to float32 (N, classes). Exported graphs return probabilities, whose
    logarithm takes the place of logits."""
    temperature: float | None = None
    """Divisor of the logits for calibrated probabilities; None if none was fitted or an exported graph applies it."""
    weights: str = ""
    """`ema`, `raw` or `soup`; empty for a network of timm."""
    threshold: float | None = None
    """Probability below which an answer is `unknown`; None if none was chosen."""
    path: Path | None = None
    """The checkpoint or file; None for a network of timm."""
    network: nn.Module | None = None
    """The network on its device, in evaluation mode; None for an exported graph."""
    config: Config | None = None
    """The training config, which names the data set; None for a network of timm."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Metrics that training logged for the checkpoint, such as `val/top1`."""
    remarks: tuple[str, ...] = ()
    device: Device | None = None
    """The device of the network; None for an exported graph."""

    def for_job(self, images: int, batch: tuple[int, ...]) -> "InferenceModel":
        """Returns this model, or one compiled for a shape of batches if it pays off on a GPU for so many images.

        Its logits differ by rounding, so it is not used where `trainer.deterministic` makes a GPU repeat the numbers of
        training. On two CPU cores, compiling a folded network took minutes, and made it slower in bf16.
        """
        deterministic = self.config is not None and self.config.trainer.deterministic
        if self.network is None or self.device is None or deterministic or not compiling_pays(self.device, images):
            return self
        log.info(f"{self.name}: compiles the network for {images:,} images, which takes a minute or two")
        logits = _compiled_logits(self.network, self.device, self.preprocessing, batch[0])
        try:
            logits(torch.zeros(batch, dtype=torch.uint8))
        except RuntimeError as error:
            reason = " ".join(str(error).partition("\n\n")[0].split())
            log.warning(f"{self.name}: is not compiled: {reason}")
            return self
        return dataclasses.replace(self, logits=logits)

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint, next to which a temperature and a threshold are stored; None for exports and timm."""
        return self.path if self.path is not None and self.path.suffix == ".ckpt" else None

    @property
    def class_names(self) -> tuple[str, ...]:
        """One for each logit."""
        return self.preprocessing.class_names

    def in_fp32(self) -> "InferenceModel":
        """Returns this model with a network that computes in fp32, whatever the precision of the training.

        Raises:
            ConfigError: it is an exported graph.
        """
        if self.network is None or self.device is None:
            raise ConfigError(f"{self.name}: is an exported graph; name the run, a checkpoint or a timm network")
        device = self.device._replace(precision="32-true")
        return dataclasses.replace(self, device=device, logits=_logits(self.network, device, self.preprocessing))

    def probabilities(self, images: Tensor) -> Tensor:
        """Maps uint8 (N, H, W, 3) to float32 (N, classes), calibrated if a temperature is known."""
        return (self.logits(images) / (self.temperature or 1.0)).softmax(1)


def compiling_pays(device: Device, images: int) -> bool:
    """True if a GPU has enough images to win back the time of compiling."""
    return device.accelerator == "gpu" and images >= COMPILED_FROM


def load_inference_model(source: str | Path, weights: WeightsKind | None = None, fold: bool = False) -> InferenceModel:
    """Loads a source of the table above.

    Args:
        source: a path, or a name of timm.
        weights: EMA or raw; None: EMA if there are any.
        fold: fold BatchNorm into the convolutions, which is 1.4 times as fast on a CPU and changes probabilities by
            less than 1e-5.

    Raises:
        RexnetError: the source is missing, damaged, or not a classifier.
    """
    path = Path(source)
    if str(source).startswith(TIMM) and not path.exists():
        if weights is not None:
            raise CheckpointError(f"{source}: has one set of weights; leave out --weights")
        return _wrap_timm(str(source), fold)
    match path.suffix.lower():
        case ".onnx" if not path.is_dir():
            return _wrap_onnx(path, weights)
        case ".pt2":
            raise CheckpointError(
                f"{path}: can execute code when it is read; use the run, .safetensors or .onnx instead"
            )
        case ".pth" | ".pt":
            raise CheckpointError(
                f"{path}: holds weights without config and classes; name the network: timm/NAME={path}"
            )
    trained = load_trained(path, weights)
    return wrap_trained(trained, _name(path, trained.path), fold)


def wrap_trained(trained: Trained, name: str, fold: bool = False) -> InferenceModel:
    """Returns the inference model of a loaded checkpoint; see `load_inference_model` for `fold`."""
    trainer, data = adapt_to_hardware(trained.config.trainer), trained.config.data
    device = resolve_device(trainer)
    network = _place(trained.model, device, fold)
    return InferenceModel(
        name,
        trained.preprocessing,
        resolve_loader(data, trainer),
        eval_batch_size(data.step_images),
        _logits(network, device, trained.preprocessing),
        trained.temperature,
        trained.weights,
        trained.threshold,
        trained.path,
        network,
        trained.config,
        trained.metrics,
        device=device,
    )


def _wrap_timm(source: str, fold: bool) -> InferenceModel:
    (model, preprocessing), trainer = load_timm(source.removeprefix(TIMM)), adapt_to_hardware(TrainerConfig())
    device, loader = resolve_device(trainer), resolve_loader(LoaderConfig(), trainer)
    network = _place(model, device, fold)
    logits = _logits(network, device, preprocessing)
    return InferenceModel(source, preprocessing, loader, TIMM_BATCH, logits, network=network, device=device)


def _wrap_onnx(path: Path, weights: WeightsKind | None) -> InferenceModel:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    graph = open_onnx(path)
    if not graph.description:
        raise CheckpointError(f"{path}: lacks the classes and preprocessing that rexnet export writes into its files")
    preprocessing, config, _ = parse_description(graph.description, path)
    kind = require_weights(graph.description, weights, path)
    trainer = adapt_to_hardware(config.trainer)
    return InferenceModel(
        path.name,
        preprocessing,
        resolve_loader(config.data, trainer)._replace(pin_memory=False),
        eval_batch_size(config.data.step_images),
        _log_probabilities(graph, preprocessing, path),
        weights=kind,
        threshold=require_fitted(graph.description, path)[1],
        path=path,
        config=config,
    )


def _place(model: nn.Module, device: Device, fold: bool) -> nn.Module:
    """Moves a network to its device, in its layout there."""
    return device.place(pad_channels(fold_batchnorm(model) if fold else model.eval(), device.pad_channels))


def _logits(network: Callable[[Tensor], Tensor], device: Device, preprocessing: Preprocessing) -> Logits:
    """Returns a function from image bytes to logits, which computes as training's validation does."""

    def logits(images: Tensor) -> Tensor:
        with torch.inference_mode(), device.autocast():
            inputs = normalize(
                images.to(device.torch_device), preprocessing.mean, preprocessing.std, device.channels_last
            )
            result = network(inputs)
        return result.float()

    return logits


def _compiled_logits(network: nn.Module, device: Device, preprocessing: Preprocessing, batch_size: int) -> Logits:
    """Does the same for the folded, compiled network; smaller batches are filled, so that there is only one graph."""
    compute = _logits(torch.compile(fold_batchnorm(network).forward, dynamic=False), device, preprocessing)

    def logits(images: Tensor) -> Tensor:
        missing = batch_size - len(images)
        filled = torch.cat([images, images.new_zeros(missing, *images.shape[1:])]) if missing > 0 else images
        return compute(filled)[: len(images)]

    return logits


def _log_probabilities(graph: OnnxGraph, preprocessing: Preprocessing, path: Path) -> Logits:
    size = preprocessing.image_size

    def logits(images: Tensor) -> Tensor:
        if images.shape[1:3] != (size, size):
            raise ConfigError(f"{path}: takes images of {size} px only, not of {images.shape[2]} x {images.shape[1]}")
        inputs = images.cpu()
        if graph.kind == "float":
            inputs = normalize(inputs, preprocessing.mean, preprocessing.std).contiguous()
        return torch.from_numpy(graph.run(inputs.numpy())).float().clamp(min=SMALLEST).log()

    return logits


def _name(given: Path, checkpoint: Path) -> str:
    """Returns the name of the run, followed by that of a checkpoint that the user chose."""
    if given.is_dir():
        return given.resolve().name
    run = run_of(checkpoint)
    return checkpoint.name if run is None else f"{run.resolve().name}/{checkpoint.stem}"
