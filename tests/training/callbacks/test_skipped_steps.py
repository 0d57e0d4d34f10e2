from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rexnet.errors import DivergenceError
from rexnet.training.callbacks.skipped_steps import SkippedSteps
from rexnet.training.nonfinite import NonFiniteGuard


def test_a_collapsed_loss_scale_of_fp16_is_reported(tmp_path: Path) -> None:
    config = SimpleNamespace(optimizer=SimpleNamespace(lr=0.05))
    skipped, module = SkippedSteps(tmp_path), SimpleNamespace(guard=NonFiniteGuard(), config=config)
    scaler = SimpleNamespace(get_scale=lambda: 2.0**-15)
    trainer: Any = SimpleNamespace(global_step=9, precision_plugin=SimpleNamespace(scaler=scaler))
    with pytest.raises(DivergenceError, match=r"fp16's loss scale fell to 3\.05e-05 at step 9\. None of these"):
        skipped.report(trainer, module)
    scaler.get_scale = lambda: 1.0
    skipped.report(trainer, module)
