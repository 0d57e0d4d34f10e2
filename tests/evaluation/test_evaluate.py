import json
import shutil
from pathlib import Path

import pytest
from conftest import SMALL_RUN, write_images

from rexnet.config import load_config
from rexnet.errors import DataError
from rexnet.evaluation.evaluate import evaluate
from rexnet.training.fit import fit


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, image_root: Path) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    config = load_config("finetune/folder.yaml", [*SMALL_RUN, f"data.root={image_root}", f"trainer.runs_dir={runs}"])
    return Path(fit(config)["run"])


@pytest.mark.parametrize(("weights", "prefix"), [("raw", "val"), ("ema", "val_ema")])
def test_the_number_is_exactly_the_one_logged_in_training(weights: str, prefix: str, run: Path, tmp_path: Path) -> None:
    from rexnet.checkpoint import load_trained

    path = run / "checkpoints" / "last.ckpt"
    logged = load_trained(path).metrics
    result = evaluate(path, weights=weights, json_path=tmp_path / "result.json")
    for name in ("top1", "top5", "loss"):
        assert result[name] == logged[f"{prefix}/{name}"]
    assert result["n"] == 15
    assert json.loads((tmp_path / "result.json").read_text()) == result


def test_the_result_is_written_beside_the_checkpoint_and_workers_change_nothing(run: Path) -> None:
    alone = evaluate(run, workers=0)
    path = Path(alone["checkpoint"])
    assert json.loads(path.with_name(f"{path.stem}-ema-val.json").read_text())["top1"] == alone["top1"]
    assert evaluate(run, workers=2)["loss"] == alone["loss"]


def test_other_images_of_the_same_classes_can_be_measured(run: Path, image_root: Path, tmp_path: Path) -> None:
    shutil.copytree(image_root, tmp_path / "more")
    write_images(tmp_path / "more" / "val" / "ant", 9, hue=0)
    assert evaluate(run, root=tmp_path / "more")["n"] == 19
    assert evaluate(run, split="train")["n"] == 24


def test_images_of_other_classes_are_refused(run: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("ant", "bee", "dog"):
            write_images(tmp_path / split / name, 2, hue=1)
    with pytest.raises(DataError, match=r"has 3 classes, other than the 3 of .*; they differ in cow, dog"):
        evaluate(run, root=tmp_path)
