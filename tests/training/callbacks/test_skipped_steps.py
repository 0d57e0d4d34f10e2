from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rexnet.config import load_config
from rexnet.errors import DivergenceError
from rexnet.training.callbacks.skipped_steps import report_skipped_steps
from rexnet.training.classification import build_classifier


def test_a_collapsed_loss_scale_of_fp16_is_reported(small_run: list[str], tmp_path: Path) -> None:
    config = load_config("finetune/folder.yaml", small_run)
    module = build_classifier(config, "abc", (8, 8, 8), 3)
    scaler = SimpleNamespace(get_scale=lambda: 2.0**-15)
    trainer: Any = SimpleNamespace(global_step=9, datamodule=None, precision_plugin=SimpleNamespace(scaler=scaler))
    with pytest.raises(
        DivergenceError, match=r"fp16's loss scale fell to 3\.05e-05 at step 9; .* optimizer\.lr \(0\.05\)"
    ):
        report_skipped_steps(trainer, module, tmp_path / "skipped_steps.jsonl")
    scaler.get_scale = lambda: 1.0
    report_skipped_steps(trainer, module, tmp_path / "skipped_steps.jsonl")
