from typing import Any

import pytest
import timm
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from rexnet import rexnet
from rexnet.config import Config, load_config
from rexnet.errors import ConfigError
from rexnet.system.device import Device
from rexnet.training.trainer import SyncBatchNorm, build_trainer


def configured(small_run: list[str], *overrides: str) -> Config:
    return load_config("finetune/folder.yaml", [*small_run, *overrides])


def test_settings_reach_their_objects(small_run: list[str]) -> None:
    config = configured(
        small_run,
        "trainer.accumulate=2",
        "trainer.deterministic=true",
        "trainer.precision=bf16",
        "trainer.max_steps=7",
        "trainer.val_every_epochs=2",
        "loss.label_smoothing=0.3",
        "schedule.cooldown_epochs=4",
    )
    trainer = build_trainer(config)
    assert (trainer.accumulate_grad_batches, trainer.precision, trainer.max_steps) == (2, "bf16-mixed", 7)
    assert (trainer.check_val_every_n_epoch, trainer.max_epochs) == (2, 6)
    assert torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)


def test_settings_for_several_gpus_reach_the_trainer(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (7, 0))
    monkeypatch.setattr("pytorch_lightning.Trainer", lambda **arguments: arguments)
    gpus = ["trainer.accelerator=auto", "trainer.precision=auto", "trainer.sync_batchnorm=true", "trainer.num_nodes=2"]
    arguments: Any = build_trainer(configured(small_run, *gpus))
    assert (arguments["accelerator"], arguments["devices"], arguments["num_nodes"]) == ("gpu", 4, 2)
    assert (arguments["precision"], arguments["sync_batchnorm"]) == ("16-mixed", True)  # before Ampere: no bf16
    assert isinstance(arguments["strategy"], DDPStrategy)
    assert arguments["use_distributed_sampler"] is False
    with pytest.raises(ConfigError, match=r"trainer\.devices: 5 are asked for, but there are 4 GPUs"):
        build_trainer(configured(small_run, *gpus, "trainer.devices=5"))


@pytest.mark.parametrize("network", [rexnet(0.2, num_classes=2), timm.create_model("efficientnet_lite0")])
def test_synchronizing_batchnorm_keeps_the_function(network: nn.Module) -> None:
    images = torch.randn(1, 3, 64, 64)
    before = network.eval()(images)
    synchronized = SyncBatchNorm().apply(network)
    assert torch.equal(synchronized(images), before)
    assert any(isinstance(layer, nn.SyncBatchNorm) for layer in synchronized.modules())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in synchronized.modules())


def test_fp16_is_refused_for_sharpness_aware_minimization(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rexnet.training.trainer.resolve_device", lambda settings: Device("gpu", "16-mixed", False))
    with pytest.raises(
        ConfigError, match=r"optimizer\.sam_rho: not with fp16, .*; set trainer\.precision=fp32 or bf16"
    ):
        build_trainer(configured(small_run, "optimizer.sam_rho=0.05"))
