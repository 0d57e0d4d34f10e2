"""Resolves the `trainer` section for the hardware: device, arithmetic, memory layout and number of processes."""

import ctypes
import sys
from typing import Literal, NamedTuple

import torch
from torch import nn

from rexnet.config.schema import TrainerConfig
from rexnet.errors import ConfigError
from rexnet.system.launcher import local_and_world_size, started_by_launcher

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # options of glibc's mallopt
LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc refuses more
TUNED_IMAGES = 2_000_000  # from which timing cuDNN's algorithms pays off, at 5,000 images/s

Accelerator = Literal["cpu", "gpu"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
PRECISIONS: dict[str, Precision] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
AUTOCAST_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Device(NamedTuple):
    """The device, arithmetic and memory layout of a network, resolved from the `trainer` section."""

    accelerator: Accelerator
    precision: Precision
    channels_last: bool
    pad_channels: int = 1
    """Widths in memory are multiples of this number."""

    @property
    def torch_device(self) -> torch.device:
        """The current CUDA device, or the CPU."""
        return torch.device("cuda" if self.accelerator == "gpu" else "cpu")

    @property
    def memory_format(self) -> torch.memory_format:
        """Layout of images and weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def place(self, network: nn.Module) -> nn.Module:
        """Moves a network to the device, in its memory layout."""
        return network.to(self.torch_device).to(memory_format=self.memory_format)

    def autocast(self) -> torch.autocast:
        """Returns the autocast context of the precision; it does nothing in fp32."""
        dtype = AUTOCAST_DTYPES.get(self.precision)
        return torch.autocast(self.torch_device.type, dtype or torch.bfloat16, enabled=dtype is not None)


def resolve_device(trainer: TrainerConfig) -> Device:
    """Resolves `auto` values for this machine and sets up this process, so that training and evaluation agree.

    `trainer.precision=auto` is bf16 only where the hardware has it: emulated, it is ten times slower than fp32 (ReXNet
    1.0x at 64 px on an AMD EPYC with AVX2: 16 against 140 images/s). `trainer.channels_last=auto` is True except in
    fp32 on GPUs: a training step of ReXNet 1.0x has 1.75 times the speed of NCHW on a CPU in fp32, and 2.4 times on an
    H200 in bf16 (batch 256). There, `trainer.pad_channels=auto` pads widths to multiples of 8, which gives another
    5 % (10 % without cudnn.benchmark).

    Raises:
        ConfigError: the hardware or the precision is not available.
    """
    if trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator: gpu is asked for, but PyTorch finds no CUDA device; use cpu or auto")
    accelerator: Accelerator = "gpu" if trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    if trainer.precision == "fp16" and accelerator == "cpu":
        raise ConfigError("trainer.precision: fp16 needs a GPU; on a CPU use fp32, or bf16 where it is fast")
    if trainer.precision != "auto":
        precision = PRECISIONS[trainer.precision]
    elif has_fast_bf16(accelerator):
        precision = "bf16-mixed"
    else:
        precision = "16-mixed" if accelerator == "gpu" else "32-true"
    if accelerator == "cpu":
        keep_freed_memory()
    else:
        torch.set_float32_matmul_precision("high")
    uses_tensor_cores = accelerator == "gpu" and precision != "32-true"
    multiples = {"auto": 8 if uses_tensor_cores else 1, "none": 1, 8: 8, 16: 16}
    fast_layout = accelerator == "cpu" or uses_tensor_cores
    channels_last = fast_layout if trainer.channels_last == "auto" else trainer.channels_last
    return Device(accelerator, precision, channels_last, multiples[trainer.pad_channels])


def resolve_devices(trainer: TrainerConfig) -> int:
    """Returns the number of processes on this node, one per device; a launcher overrides the config.

    Raises:
        ConfigError: more GPUs are asked for than there are, or synchronized BatchNorm on a CPU.
    """
    wanted = trainer.devices
    if started_by_launcher():
        return local_and_world_size()[0]
    if resolve_device(trainer).accelerator == "cpu":
        if trainer.sync_batchnorm:
            raise ConfigError("trainer.sync_batchnorm: PyTorch synchronizes BatchNorm on GPUs only; set it to false")
        return 1 if wanted == "auto" else wanted
    available = torch.cuda.device_count()
    if wanted != "auto" and wanted > available:
        raise ConfigError(f"trainer.devices: {wanted} are asked for, but there are {available} GPUs")
    return available if wanted == "auto" else wanted


def resolve_nodes(trainer: TrainerConfig) -> int:
    """Returns the number of machines; a launcher overrides the config."""
    local, world = local_and_world_size()
    return world // local if started_by_launcher() else trainer.num_nodes


def adapt_to_hardware(trainer: TrainerConfig) -> TrainerConfig:
    """Returns the `trainer` section of a run for evaluation on this machine: settings that need a GPU become `auto`.

    The number of processes is that of the launcher, or 1, however many trained.
    """
    local, world = local_and_world_size()
    changes: dict[str, object] = {"sync_batchnorm": False, "devices": local, "num_nodes": world // local}
    if not torch.cuda.is_available():
        changes["accelerator"] = "auto" if trainer.accelerator == "gpu" else trainer.accelerator
        changes["precision"] = "auto" if trainer.precision == "fp16" else trainer.precision
    return trainer.model_copy(update=changes)


def tune_convolutions(images: int, deterministic: bool) -> None:
    """Makes cuDNN measure its algorithms in the first steps of runs that have so many `images` left on each device.

    On an H200, it costs 9 s and makes a padded step of ReXNet 1.0x 2.5 % faster (without padding 24 s and 7 %).
    """
    torch.backends.cudnn.benchmark = images >= TUNED_IMAGES and not deterministic


def has_fast_bf16(accelerator: Accelerator) -> bool:
    """True if bf16 convolutions run in hardware."""
    if accelerator == "gpu":
        return torch.cuda.get_device_capability() >= (8, 0)
    # No public function tells it yet, and these may go.
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check() for check in checks if check is not None)


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next step.

    By default it returns each large tensor to the kernel, and the next step waits while the kernel clears new pages.
    Measured on two cores (ReXNet 1.0x, 128 px, batch 32): a third of the system time, and 42 -> 60 images/s in one run,
    40 -> 47 in another.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(M_TOP_PAD, 256 << 20)
