"""The trainer section becomes a device, an arithmetic and a number of processes of this machine."""

import sys
from typing import Any

import pytest
import torch

from rexnet import rexnet
from rexnet.config import load_config
from rexnet.config.schema import TrainerConfig
from rexnet.errors import ConfigError
from rexnet.system.device import (
    Device,
    adapt_to_hardware,
    keep_freed_memory,
    resolve_device,
    resolve_devices,
    tune_convolutions,
)


def section(**values: Any) -> TrainerConfig:
    return load_config("quickstart", [f"trainer.{key}={value}" for key, value in values.items()]).trainer


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, count: int, capability: tuple[int, int] = (8, 0)) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
    monkeypatch.setattr("torch.backends.cudnn.benchmark", False)
    monkeypatch.setattr("torch.set_float32_matmul_precision", lambda name: None)


@pytest.mark.parametrize(
    ("gpus", "fast_bf16", "values", "device"),
    [
        (0, False, {}, ("cpu", "32-true", True, 1)),
        (0, True, {}, ("cpu", "bf16-mixed", True, 1)),
        (0, False, {"precision": "bf16", "channels_last": "false"}, ("cpu", "bf16-mixed", False, 1)),
        (0, False, {"pad_channels": "16"}, ("cpu", "32-true", True, 16)),
        (1, True, {}, ("gpu", "bf16-mixed", True, 8)),
        (1, False, {}, ("gpu", "16-mixed", True, 8)),
        (1, True, {"precision": "fp32"}, ("gpu", "32-true", False, 1)),
        (1, True, {"accelerator": "cpu", "precision": "fp32"}, ("cpu", "32-true", True, 1)),
        (1, True, {"precision": "fp32", "channels_last": "true"}, ("gpu", "32-true", True, 1)),
        (1, True, {"pad_channels": "none"}, ("gpu", "bf16-mixed", True, 1)),
    ],
)
def test_auto_takes_the_fastest_of_the_machine(
    gpus: int, fast_bf16: bool, values: dict[str, str], device: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpus(monkeypatch, gpus)
    monkeypatch.setattr("rexnet.system.device.has_fast_bf16", lambda _: fast_bf16)
    defaults = {"accelerator": "auto", "precision": "auto", "channels_last": "auto", "pad_channels": "auto"}
    assert resolve_device(section(**(defaults | values))) == device


def test_old_gpus_have_no_fast_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, 1, (7, 5))
    assert resolve_device(section(accelerator="auto", precision="auto")).precision == "16-mixed"
    pretend_gpus(monkeypatch, 1, (9, 0))
    assert resolve_device(section(accelerator="auto", precision="auto")).precision == "bf16-mixed"


@pytest.mark.parametrize(
    ("gpus", "values", "processes"),
    [
        (0, {"devices": "auto"}, 1),
        (0, {"devices": 3}, 3),
        (4, {"devices": "auto"}, 4),
        (4, {"devices": 2}, 2),
        (4, {"devices": 3, "accelerator": "cpu"}, 3),
    ],
)
def test_each_device_has_a_process(
    gpus: int, values: dict[str, Any], processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpus(monkeypatch, gpus)
    assert resolve_devices(section(**({"accelerator": "auto"} | values))) == processes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"accelerator": "gpu"}, "trainer.accelerator: gpu is asked for, but PyTorch finds no CUDA device"),
        ({"precision": "fp16"}, "trainer.precision: fp16 needs a GPU"),
        ({"sync_batchnorm": "true"}, "trainer.sync_batchnorm: PyTorch synchronizes BatchNorm on GPUs only"),
    ],
)
def test_missing_hardware_is_one_sentence(
    values: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpus(monkeypatch, 0)
    with pytest.raises(ConfigError, match=message):
        resolve_devices(section(**({"accelerator": "auto"} | values)))
    pretend_gpus(monkeypatch, 2)
    with pytest.raises(ConfigError, match=r"trainer\.devices: 3 are asked for, but there are 2 GPUs"):
        resolve_devices(section(accelerator="gpu", devices=3))


def test_a_run_from_gpus_is_evaluated_on_a_machine_without(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = section(accelerator="gpu", precision="fp16", sync_batchnorm="true", devices=8, num_nodes=2)
    pretend_gpus(monkeypatch, 0)
    adapted = adapt_to_hardware(trained)
    assert (adapted.accelerator, adapted.precision, adapted.sync_batchnorm) == ("auto", "auto", False)
    assert (adapted.devices, adapted.num_nodes) == (1, 1)
    assert resolve_devices(adapted) == 1
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("WORLD_SIZE", "8")
    pretend_gpus(monkeypatch, 4)
    adapted = adapt_to_hardware(trained)
    assert (adapted.accelerator, adapted.precision, adapted.devices, adapted.num_nodes) == ("gpu", "fp16", 4, 2)


def test_a_device_places_networks_and_computes_in_its_precision() -> None:
    device = Device("cpu", "bf16-mixed", channels_last=True)
    network = device.place(rexnet(0.2, num_classes=2)).eval()
    assert network.stem.conv.weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[union-attr]
    images = torch.zeros(1, 3, 32, 32)
    with device.autocast():
        assert network(images).dtype == torch.bfloat16
    with Device("cpu", "32-true", channels_last=False).autocast():
        assert network(images).dtype == torch.float32


def test_freed_memory_is_kept_on_linux_only(monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, option: int, value: int) -> None:
            options.append((option, value))

    monkeypatch.setattr("ctypes.CDLL", lambda _: Library())
    monkeypatch.setattr(sys, "platform", "darwin")
    keep_freed_memory()
    assert options == []
    monkeypatch.setattr(sys, "platform", "linux")
    keep_freed_memory()
    assert options == [(-3, 32 << 20), (-1, 2**31 - 1), (-2, 256 << 20)]


@pytest.mark.parametrize(
    ("images", "deterministic", "tuned"),
    [(1_999_999, False, False), (2_000_000, False, True), (3_000_000, True, False)],
)
def test_cudnn_measures_its_algorithms_where_a_run_is_long_enough(
    images: int, deterministic: bool, tuned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.cudnn.benchmark", not tuned)
    tune_convolutions(images, deterministic)
    assert torch.backends.cudnn.benchmark == tuned
