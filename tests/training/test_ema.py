import numpy as np
import pytest
import torch
from torch import nn

from rexnet.config.schema import EmaConfig
from rexnet.training.ema import averaged_tensors, build_ema, decay_at, update_ema


def test_the_decay_grows_from_a_short_memory_to_its_final_value() -> None:
    config = EmaConfig(decay=0.99)
    assert [decay_at(step, config, 9, 4) for step in (1, 8, 90)] == pytest.approx([2 / 11, 0.5, 0.91])
    assert decay_at(10_000, config, 9, 4) == 0.99


def test_the_mean_of_the_last_epochs_changes_only_at_their_ends() -> None:
    config = EmaConfig(last_epochs=3)
    assert [decay_at(step, config, 5, 2) for step in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)] == pytest.approx(
        [1, 0, 1, 0, 1, 0, 1, 1 / 2, 1, 2 / 3]
    )


def test_the_ema_is_the_formula_over_weights_and_batchnorm_statistics() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    ema = build_ema(model)
    expected = {name: value.double().numpy().copy() for name, value in model.state_dict().items()}
    for step in range(1, 6):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(8, 3))  # moves the running statistics
        decay = decay_at(step, EmaConfig(decay=0.9), 5, 1)
        update_ema(averaged_tensors(ema), averaged_tensors(model), decay)
        for name, value in model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double().numpy()
    for name, value in ema.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert value == 5
        else:
            np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-5, atol=1e-6)


def test_the_ema_takes_no_gradient_and_stays_in_evaluation_mode() -> None:
    ema = build_ema(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)))
    assert not ema.training
    assert all(not parameter.requires_grad for parameter in ema.parameters())
