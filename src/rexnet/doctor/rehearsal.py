"""A few steps on one batch, as training would make them: do they fit, how fast are they, and does the loss fall."""

import copy
import time
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader

from rexnet.config import Config
from rexnet.data.augment.batch import augment_batch, normalize
from rexnet.data.augment.transforms import build_train_transform
from rexnet.data.datamodule import ImageData
from rexnet.data.dataset import ImageDataset, stack
from rexnet.data.loaders import build_train_sampler
from rexnet.doctor.finding import Finding
from rexnet.doctor.machine import megabytes
from rexnet.system.device import autocast_dtype, resolve_accelerator, resolve_precision, use_channels_last
from rexnet.training.callbacks.step_log import peak_memory_gb
from rexnet.training.classifier import Classifier
from rexnet.training.run_training import explained_memory
from rexnet.training.trainer import build_trainer

STEPS = 20
SECONDS = 15.0  # after which no further step begins
FEWEST = 5  # steps; the first one is slower and not timed
COMPARED = 3  # losses at the beginning and at the end, at most
MARGIN = 1.2  # of the peak over what is kept for the gradient (measured: 1.2 at 224 px, batch 32, ReXNet 1.0x)
PROBED = 2  # images; BatchNorm cannot train on one


@dataclass
class Rehearsal(Callback):
    """What was seen of the steps."""

    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    memory_gb: float = 0.0
    images_per_s: float = 0.0
    """Of one device in training."""
    eval_images_per_s: float = 0.0
    """Of one device in validation, averaged network included."""

    def on_train_batch_start(self, *_: Any) -> None:
        """Starts the clock."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *_: Any) -> None:
        """Reads loss and clock; ends what takes too long."""
        self.losses.append(float(outputs["loss"]))  # waits for the device
        self.seconds.append(time.perf_counter() - self._began)
        if sum(self.seconds) > SECONDS and len(self.seconds) >= FEWEST:
            trainer.should_stop = True


def fixed_batch(config: Config, data: ImageData) -> tuple[Tensor, Tensor]:
    """The first batch of one device, augmented: images (N, 3, H, W), and labels (N,) or shares (N, classes)."""
    transform = build_train_transform(config.data, config.augmentation)
    dataset = ImageDataset(data.train_index, transform, config.seed)
    batch = stack([dataset[key] for key in build_train_sampler(config, data.train_index).batch_at(0, 0)])
    images = normalize(batch.images, config.data.mean, config.data.std, use_channels_last(config.trainer))
    return augment_batch(images, batch.labels, config.augmentation, len(data.class_names), batch.seed)


def rehearsed(config: Config, device_batch: int) -> Config:
    """The configuration of what one device does in one part of a step, with the peak learning rate after few steps."""
    trainer = {"devices": 1, "num_nodes": 1, "accumulate": 1, "sync_batchnorm": False, "max_steps": STEPS}
    schedule = {"epochs": 2, "warmup_epochs": 1.0, "warmup_lr": 0.0, "cooldown_epochs": 0}
    changes = {"trainer": trainer, "schedule": schedule, "optimizer": {"freeze_backbone_epochs": 0}}
    changes["data"] = {"batch_size": device_batch, "num_workers": 0, "cache": None, "last_batch": "pad"}
    sections = {name: getattr(config, name).model_copy(update=update) for name, update in changes.items()}
    return config.model_copy(update=sections)


def rehearse(config: Config, module: Classifier, batch: tuple[Tensor, Tensor]) -> Rehearsal:
    """Trains on one batch and measures; `config` is that of one device, from `rehearsed`.

    Raises:
        ConfigError: the batch does not fit into GPU memory.
    """
    share, seen = len(batch[0]), Rehearsal()
    trainer = build_trainer(config, [seen])
    trainer.limit_val_batches = 0
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    again: Any = [batch] * (STEPS + 1)  # one more, so that no epoch ends
    loader = DataLoader(again, batch_size=None)
    with explained_memory(trainer):
        trainer.fit(module, loader, loader)
    device = trainer.strategy.root_device
    seen.memory_gb = peak_memory_gb(device)
    seen.images_per_s = share * (len(seen.seconds) - 1) / sum(seen.seconds[1:])
    seen.eval_images_per_s = share / _time_evaluation(config, module.to(device), batch[0].to(device))
    return seen


def foresee_memory(config: Config, module: Classifier, free: int) -> Finding | None:
    """What is wrong, where one step would take more memory than there is; a GPU says so itself."""
    needed, share = predict_memory(config, module), config.data.batch_size
    if resolve_accelerator(config.trainer) == "gpu" or needed <= free:
        return None
    text = f"{share} images at once need about {megabytes(needed)}, {megabytes(free)} are there"
    return Finding("error", "memory", f"{text}; set trainer.accumulate or lower data.batch_size")


def judge_memory(seen: Rehearsal, share: int, free: int) -> Finding:
    """What a step took of the memory that was there."""
    text = f"{seen.memory_gb:.2f} GB at its peak with {share} images at once, {megabytes(free)} were free"
    if seen.memory_gb * 1e9 > 0.9 * free:
        return Finding("warning", "memory", f"{text}; little is left, so set trainer.accumulate")
    return Finding("ok", "memory", text)


def judge_losses(losses: list[float], lr: float) -> Finding:
    """Whether the loss on one batch is finite and falls."""
    number = min(COMPARED, len(losses) // 2)
    first, last = (sum(some) / number for some in (losses[:number], losses[-number:]))
    reached = lr * (len(losses) - 1) / (STEPS - 1)
    text = f"loss on one batch from {first:.3f} to {last:.3f} in {len(losses)} steps, up to learning rate {reached:.3g}"
    remedy = "lower optimizer.lr, set optimizer.clip_grad, or see whether labels and model.pretrained are right"
    if not all(map(torch.isfinite, torch.tensor(losses))):
        number = next(number for number, loss in enumerate(losses, 1) if loss - loss != 0)
        return Finding("error", "learning", f"the loss is NaN or infinite at step {number} on one batch; {remedy}")
    if last < first:
        return Finding("ok", "learning", text)
    if len(losses) < STEPS:
        return Finding("warning", "learning", f"{text}; no more fitted into {SECONDS:.0f} s, so this says little")
    return Finding("error", "learning", f"{text}: it does not fall; {remedy}")


def predict_memory(config: Config, module: Classifier) -> int:
    """Bytes that training takes: what the network keeps for the gradient, measured on few images, and the weights."""
    model = copy.deepcopy(module.model).train()
    layout = torch.channels_last if use_channels_last(config.trainer) else torch.contiguous_format
    side = config.data.image_size
    kept = kept_bytes(model, torch.zeros(PROBED, 3, side, side).to(memory_format=layout), _autocast(config, "cpu"))
    weights = sum(p.numel() * p.element_size() for p in module.parameters())
    return round(MARGIN * kept * config.data.batch_size / PROBED) + 3 * weights


def kept_bytes(model: nn.Module, images: Tensor, autocast: Any) -> int:
    """Bytes that a forward pass keeps for the backward one, beside the weights."""
    storages: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), autocast:
        logits = model(images)
    del logits  # until here it held what was kept, so that no address came twice
    return sum(size for address, size in storages.items() if address not in weights)


def checkpoint_bytes(config: Config, module: Classifier) -> int:
    """Size of a checkpoint: weights, averages, statistics, and what the optimiser keeps of each parameter."""
    state: int = sum(value.numel() * value.element_size() for value in module.state_dict().values())
    moments = {"adamw": 2, "sgd": int(config.optimizer.momentum > 0)}[config.optimizer.name]
    return state + moments * sum(p.numel() * p.element_size() for p in module.model.parameters())


def _autocast(config: Config, device: str) -> Any:
    dtype = autocast_dtype(resolve_precision(config.trainer, resolve_accelerator(config.trainer)))
    return torch.autocast(device, dtype=dtype, enabled=dtype is not None)


def _time_evaluation(config: Config, module: Classifier, images: Tensor) -> float:
    """Seconds for a batch in validation."""
    networks = [network.eval() for network in (module.model, module.ema_model) if network is not None]
    seconds = 0.0
    for _ in range(2):  # the first one warms up
        began = time.perf_counter()
        with torch.inference_mode(), _autocast(config, images.device.type):
            results = [network(images) for network in networks]
        float(results[-1].sum())  # waits for the device
        seconds = time.perf_counter() - began
    return seconds
