import copy
from pathlib import Path

import pytest
import torch

from rexnet.checkpoints.checkpoint import Trained
from rexnet.config import Config
from rexnet.data.datasets import load_index
from rexnet.evaluation.soup import average, estimate_batchnorm
from rexnet.models.factory import build_model
from rexnet.preprocessing import resolve_preprocessing

NAMES = ("ant", "bee", "cow")


def trained(config: Config, offset: float) -> Trained:
    """A network whose weights are those of all others plus `offset`."""
    torch.manual_seed(0)
    model = build_model(config.model, NAMES).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += offset
    return Trained(model, resolve_preprocessing(config, NAMES), config, "raw", Path("x.ckpt"), {})


def test_weights_are_the_mean_and_batchnorm_is_estimated_anew(small_config: Config) -> None:
    ingredients = [trained(small_config, offset) for offset in (0.0, 0.02, 0.04)]
    before = copy.deepcopy(ingredients[0].model.state_dict())
    soup = average(ingredients).model
    middle = dict(ingredients[1].model.named_parameters())
    for name, parameter in soup.named_parameters():
        torch.testing.assert_close(parameter, middle[name], rtol=0, atol=1e-6)
    assert all(torch.equal(before[name], value) for name, value in ingredients[0].model.state_dict().items())
    norm = next(module for module in soup.modules() if isinstance(module, torch.nn.BatchNorm2d))
    assert norm.momentum == 0.1
    assert not norm.training
    assert norm.running_mean is not None
    assert norm.running_mean.abs().sum() > 0  # a fresh one is 0


def test_statistics_are_those_of_the_training_images_and_the_same_each_time(small_config: Config) -> None:
    data = small_config.data.model_copy(update={"last_batch": "drop"})
    augmentation = small_config.augmentation.model_copy(
        update={"flip": 0.0, "color_jitter": 0.0, "randaugment": None, "crop_scale": (1.0, 1.0)}
    )
    config = small_config.model_copy(update={"data": data, "augmentation": augmentation})
    probe = torch.nn.Sequential(torch.nn.BatchNorm2d(3)).eval()
    estimate_batchnorm(probe, config)
    first = probe[0].running_mean.tolist()
    estimate_batchnorm(probe, config)
    assert probe[0].running_mean.tolist() == first
    assert len(load_index(data, "train")) == 24  # three batches of 8, all of which were seen
    assert int(probe[0].num_batches_tracked) == 3
    hues = torch.tensor([[200, 20, 90], [90, 200, 20], [20, 90, 200]]).float().mean(0) + 27.5  # noise adds 0 to 55
    expected = (hues / 255 - torch.tensor(config.data.mean)) / torch.tensor(config.data.std)
    assert first == pytest.approx(expected.tolist(), abs=0.02)
