from pathlib import Path

import pytest

from rexnet.errors import CheckpointError
from rexnet.runs.checkpoint_files import find_checkpoint


def test_a_run_folder_stands_for_its_best_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        find_checkpoint(tmp_path)
    for name in ("last", "epoch004-top1_9.50", "epoch001-top1_71.20", "epoch003-top1_71.20"):
        (folder / f"{name}.ckpt").touch()
    assert find_checkpoint(tmp_path).name == "epoch003-top1_71.20.ckpt"
    assert find_checkpoint(folder / "last.ckpt") == folder / "last.ckpt"
    with pytest.raises(CheckpointError, match="no such run folder or checkpoint"):
        find_checkpoint(tmp_path / "nothing")
