"""Where no GPU is at hand: PyTorch's fake tensors know on which device each one would lie, and refuse to mix them.

They compute nothing, and have neither the backward pass nor the fused optimizers.
"""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from rexnet.config import load_config
from rexnet.data.augment.batch import augment_batch, normalize
from rexnet.models.factory import build_model
from rexnet.training.classifier import Classifier
from rexnet.training.ema import averaged_tensors, update_ema
from rexnet.training.losses import CrossEntropy

SMALL = ["model.width_mult=0.2", "model.depth_mult=0.1", "model.dropout=0.2", "model.drop_path=0.2"]
MIXED = ["augmentation.mixup=0.2", "augmentation.cutmix=1"]  # erasing would ask the driver for random numbers


def placed(module: Classifier) -> Classifier:
    """The module as Lightning would have moved it, on a GPU that is not there."""

    def like(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda")

    for part in module.modules():
        for name, parameter in part._parameters.items():
            part._parameters[name] = None if parameter is None else nn.Parameter(like(parameter))
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else like(buffer)
    module.window.sums = like(module.window.sums)
    for metrics in (module.val_metrics, module.val_ema_metrics):
        assert metrics is not None
        for name, value in metrics._defaults.items():
            setattr(metrics, name, like(value))
    return module


def test_a_step_and_a_validation_would_lie_on_the_gpu_as_a_whole() -> None:
    config = load_config("finetune/folder.yaml", ["data.root=/data", *SMALL, *MIXED])
    model = build_model(config.model, ["a", "b", "c"], pretrained=False)
    module = Classifier(config, model, CrossEntropy(0.1), ["a", "b", "c"], 3)
    assert module.ema_model is not None
    with FakeTensorMode():
        placed(module)
        with pytest.raises(RuntimeError, match=r"devices,? cuda:0"):
            torch.empty(2, device="cuda") + torch.empty(2)
        images = torch.empty(8, 32, 32, 3, dtype=torch.uint8, device="cuda")
        labels = torch.empty(8, dtype=torch.int64, device="cuda")
        module.guard.start(module.model)
        for seed in (0, 4):  # mixup, CutMix
            views = normalize(images, config.data.mean, config.data.std)
            mixed, soft = augment_batch(views, labels, config.augmentation, 3, seed)
            assert module.training_step((mixed, soft), 0).device.type == "cuda"
        gradients = [torch.empty_like(parameter) for parameter in module.model.parameters()]
        optimizer = SimpleNamespace(param_groups=[{"fused": True}], defaults={"fused": True}, state={})
        module.guard.check(torch.nn.utils.get_total_norm(gradients), optimizer)
        module.guard.rollback(optimizer)
        averaged = averaged_tensors(module.ema_model), averaged_tensors(module.model)
        update_ema(*averaged, 0.9, skip=module.guard.bad)
        module.val_metrics.update(module.ema_model(views), labels)
        assert {value.device.type for value in module.val_metrics.compute().values()} == {"cuda"}
