from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rexnet.training.callbacks.checkpoint_callbacks import BestCheckpoints, SaveLast


@pytest.mark.parametrize(
    ("step", "batch", "epoch", "saves"),
    [
        (5, 1, 1, True),  # max_steps ends the run within an epoch
        (4, 0, 1, False),
        (5, 2, 1, False),  # the validation after this batch saves
        (5, 2, 0, True),  # this epoch has no validation
    ],
)
def test_the_last_checkpoint_is_saved_where_max_steps_ends_a_run_without_a_validation(
    step: int, batch: int, epoch: int, saves: bool, tmp_path: Path
) -> None:
    saved: list[Path] = []
    trainer: Any = SimpleNamespace(
        global_step=step,
        max_steps=5,
        num_training_batches=3,
        current_epoch=epoch,
        check_val_every_n_epoch=2,
        save_checkpoint=lambda path, weights_only: saved.append(path),
    )
    SaveLast(tmp_path).on_train_batch_end(trainer, None, None, None, batch)
    assert saved == ([tmp_path / "checkpoints" / "last.ckpt"] if saves else [])


def test_the_list_of_the_best_moves_with_the_folder(tmp_path: Path) -> None:
    state: dict[str, Any] = {
        "monitor": "val/top1",
        "best_model_score": 90.0,
        "best_model_path": "/old/checkpoints/epoch002-top1_90.00.ckpt",
        "current_score": 80.0,
        "dirpath": "/old/checkpoints",
        "best_k_models": {"/old/checkpoints/epoch002-top1_90.00.ckpt": 90.0},
        "kth_best_model_path": "/old/checkpoints/epoch002-top1_90.00.ckpt",
        "kth_value": 90.0,
        "last_model_path": "",
    }
    callback = BestCheckpoints(tmp_path, "val/top1", keep=2)
    callback.load_state_dict(state)
    moved = str(tmp_path / "checkpoints" / "epoch002-top1_90.00.ckpt")
    assert (callback.best_model_path, callback.kth_best_model_path, callback.last_model_path) == (moved, moved, "")
    assert (callback.best_k_models, callback.current_score) == ({moved: 90.0}, 80.0)
