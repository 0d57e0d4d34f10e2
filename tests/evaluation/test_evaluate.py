import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL_RUN, write_images

from rexnet.checkpoints.checkpoint import load_trained
from rexnet.config import load_config
from rexnet.errors import CheckpointError, ConfigError, DataError
from rexnet.evaluation.comparison import print_and_save
from rexnet.evaluation.evaluate import Request
from rexnet.evaluation.evaluate import evaluate as evaluate_all
from rexnet.evaluation.inference import View
from rexnet.export.formats import write_safetensors
from rexnet.metrics.predictions import load_predictions
from rexnet.metrics.selective import Threshold
from rexnet.metrics.statistics import probabilities_of, split_in_halves
from rexnet.report.report import write_report
from rexnet.training.classification import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, image_root: Path) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    config = load_config("finetune/folder.yaml", [*SMALL_RUN, f"data.root={image_root}", f"trainer.runs_dir={runs}"])
    return train(config).run


def evaluate(source: Path, json_path: Path | None = None, **request: Any) -> dict[str, Any]:
    results = evaluate_all([source], Request(**request))
    print_and_save(results, json_path)
    return results[0].as_json()


@pytest.mark.parametrize(("weights", "prefix"), [("raw", "val"), ("ema", "val_ema")])
def test_the_number_is_exactly_the_one_logged_in_training(weights: str, prefix: str, run: Path, tmp_path: Path) -> None:
    path = run / "checkpoints" / "last.ckpt"
    logged = load_trained(path).metrics
    result = evaluate(path, tmp_path / "result.json", weights=(weights,))
    for name in ("top1", "top5", "loss"):
        assert result[name] == logged[f"{prefix}/{name}"]
    assert result["n"] == 15
    assert json.loads((tmp_path / "result.json").read_text()) == result


def test_the_result_is_kept_in_the_run_and_workers_change_no_number(run: Path) -> None:
    alone = evaluate(run, workers=0)
    stem = f"{Path(alone['checkpoint']).stem}-ema-val"
    assert json.loads((run / "evaluation" / f"{stem}.json").read_text()) == alone
    predictions = load_predictions(run / "evaluation" / f"{stem}.npz")
    assert predictions.class_names == ("ant", "bee", "cow")
    assert predictions.names[:2] == ("ant/000.png", "ant/001.png")
    assert 100 * (predictions.logits.argmax(1) == predictions.labels).mean() == pytest.approx(alone["top1"])
    other = evaluate(run, workers=2)
    assert {**other, "images_per_s": 0} == {**alone, "images_per_s": 0}


def test_other_images_of_the_same_classes_can_be_measured(run: Path, image_root: Path, tmp_path: Path) -> None:
    shutil.copytree(image_root, tmp_path / "more")
    write_images(tmp_path / "more" / "val" / "ant", 9, hue=0)
    assert evaluate(run, roots=(tmp_path / "more",))["n"] == 19
    assert evaluate(run, split="train")["n"] == 24


def test_several_sets_of_one_layout_are_told_apart_and_each_is_kept(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, images in (("clean", 2), ("noisy", 3)):
        write_images(tmp_path / name / "val" / "ant", images, hue=0)
    results = evaluate_all([run], Request(roots=(tmp_path / "clean", tmp_path / "noisy")))
    print_and_save(results, tmp_path / "table.json")
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()[:3]] == ["data", "clean/val", "noisy/val"]
    write_images(tmp_path / "b" / "clean" / "val" / "ant", 4, hue=0)  # in another call, under the same name
    for _ in range(2):
        again = evaluate_all([run], Request(roots=(tmp_path / "b" / "clean",)))
        print_and_save(again)
    names = [result.file_name for result in [*results, *again]]
    folders = [f"{tmp_path.name}-clean-val", f"{tmp_path.name}-noisy-val", "b-clean-val"]
    assert [name.partition("-val-")[2] for name in names] == folders
    kept = [path for path in (run / "evaluation").glob("*.npz") if path.stem.endswith(("-clean-val", "-noisy-val"))]
    assert {path.stem for path in kept} == set(names)
    assert [len(load_predictions(run / "evaluation" / f"{name}.npz").labels) for name in names] == [2, 3, 4]


def test_images_of_other_classes_are_refused(run: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("ant", "bee", "dog"):
            write_images(tmp_path / split / name, 2, hue=1)
    with pytest.raises(DataError, match=r"has 3 classes, which should be among the 3 of .*; unknown: dog"):
        evaluate(run, roots=(tmp_path,))


def test_a_model_whose_images_are_elsewhere_asks_for_others(run: Path, tmp_path: Path) -> None:
    trained = load_trained(run)
    data = trained.config.data.model_copy(update={"root": Path("path/to/images")})
    write_safetensors(
        trained._replace(config=trained.config.model_copy(update={"data": data})), tmp_path / "m.safetensors"
    )
    with pytest.raises(DataError, match=r"its images, path/to/images, are not here; name others with --data"):
        evaluate(tmp_path / "m.safetensors")


def test_several_weights_are_one_table_with_tests_between_them(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = evaluate_all([run], Request(weights=("ema", "raw", "soup")))
    assert [result.model.weights for result in results] == ["ema", "raw", "soup"]
    print_and_save(results, tmp_path / "table.json")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["model", "weights", "view"]
    assert lines[1].startswith(run.name)
    assert "mean of 2 checkpoints (epoch00" in "\n".join(lines)
    content = json.loads((tmp_path / "table.json").read_text())
    assert [row["weights"] for row in content["results"]] == ["ema", "raw", "soup"]
    assert content["results"][1]["top1_interval"] == list(results[1].summary.top1_interval)
    assert len(content["comparisons"]) == 3
    assert content["results"][0]["n"] == 15
    soup = run / "evaluation" / "top2-soup-val.npz"
    assert len(load_predictions(soup).labels) == 15


def test_a_temperature_is_fitted_on_one_half_kept_and_reported_on_the_other(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = evaluate_all([run], Request())[0]
    assert plain.temperature is None
    assert "top-5" not in plain.describe()  # of 3 classes
    with pytest.raises(
        DataError, match="answers to 7 of the 15 images of val, a random half, determine no temperature"
    ):
        evaluate_all([run], Request(calibrate=True))
    assert not list(run.glob("checkpoints/*temperature*"))
    monkeypatch.setattr("rexnet.evaluation.fitting.fit_temperature", lambda logits, labels: 1.0 + len(labels) / 10)
    result = evaluate_all([run], Request(calibrate=True))[0]
    _, reported = split_in_halves(15)
    assert result.summary.n == len(reported) == 8
    assert list(result.predictions.names) == [plain.predictions.names[position] for position in reported]
    assert "fitted on 7 of the 15 images of val, a random half; all results are of the other 8" in result.remarks[0]
    assert "; 7 images are few, so it is uncertain: 200 in all would be right" in result.remarks[0]
    assert result.temperature == 1.7
    again = evaluate_all([run], Request())[0]
    assert again.temperature == result.temperature
    assert "was fitted on 7 of the 15 images of val, a random half: calibrated numbers" in again.remarks[0]
    assert evaluate_all([run], Request(weights=("raw",)))[0].temperature is None
    Path(result.source).with_name(f"{Path(result.source).stem}-ema-temperature.json").unlink()
    with pytest.raises(ConfigError, match="--calibrate and --coverage-at-error: fit one value, one after the other"):
        evaluate_all([run], Request(calibrate=True, views=(View(flip=True),)))


def test_a_threshold_is_chosen_on_one_half_kept_and_reported_on_the_other(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"at most 1 % on 8 of the 15 images .*they are too few; .*\(299 without a mis"):
        evaluate_all([run], Request(max_risk=0.01))
    plain = evaluate_all([run], Request())[0]
    reported, chosen = split_in_halves(15)
    confidence = probabilities_of(plain.predictions.logits).max(1)
    asked: list[Any] = []
    value = float(np.sort(confidence[reported])[-3])  # three of the seven images of the other half reach it

    def choose(*arguments: Any) -> Threshold:
        asked.append(arguments)
        return Threshold(value, 4, 0)

    monkeypatch.setattr("rexnet.evaluation.fitting.choose_threshold", choose)
    result = evaluate_all([run], Request(max_risk=0.25))[0]
    assert (asked[0][0].tolist(), asked[0][2]) == (confidence[chosen].tolist(), 0.25)
    assert result.summary.n == len(reported) == 7
    assert "chosen on 8 of the 15 images of val, a random half, for an error of at most 25 %" in result.remarks[0]
    assert "of the other 7, 42.9 % are answered" in result.remarks[0]
    trained = load_trained(Path(result.source))
    assert trained.threshold == value
    write_safetensors(trained, tmp_path / "m.safetensors")
    assert load_trained(tmp_path / "m.safetensors").threshold == value
    kept = Path(result.source).with_name(f"{Path(result.source).stem}-ema-temperature.json")
    kept.write_text(kept.read_text().replace(str(value), "1.5"))
    with pytest.raises(CheckpointError, match=r"its threshold should be a number from 0 to 1, not 1\.5"):
        load_trained(Path(result.source))
    kept.unlink()


def test_some_of_the_classes_may_be_measured_and_all_compete(run: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "Cow", 4, hue=2)
    write_images(tmp_path / "bee", 3, hue=1)
    result = evaluate_all([run], Request(roots=(tmp_path,)))[0]
    assert result.predictions.labels.tolist() == [2, 2, 2, 2, 1, 1, 1]
    assert result.predictions.logits.shape == (7, 3)
    assert result.remarks == ("the images show 2 of the 3 classes; all of them compete",)


def test_what_cannot_be_compared_or_averaged_is_said(run: Path, tmp_path: Path) -> None:
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    content["rexnet"]["class_names"] = ["ant", "bee", "dog"]
    (tmp_path / "other" / "checkpoints").mkdir(parents=True)
    torch.save(content, tmp_path / "other" / "checkpoints" / "last.ckpt")
    with pytest.raises(DataError, match=r"has 3 classes, which should be among the 3 of other; unknown: cow"):
        evaluate_all([run, tmp_path / "other"], Request())
    with pytest.raises(CheckpointError, match="a soup needs a run folder with two of its best checkpoints, not 0"):
        evaluate_all([tmp_path / "other"], Request(weights=("soup",)))


def test_changed_images_are_said_and_matched_by_class_name(image_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(image_root, root)
    config = load_config("finetune/folder.yaml", [*SMALL_RUN, f"data.root={root}", f"trainer.runs_dir={tmp_path}/runs"])
    run = train(config).run
    (before,) = evaluate_all([run], Request())
    for split in ("train", "val"):
        shutil.rmtree(root / split / "bee")
    (root / "val/ant/000.png").unlink()
    (after,) = evaluate_all([run], Request())
    assert (before.remarks, after.logged) == ((), None)
    assert "images have changed since the training: 6 removed (ant/000.png, bee/000.png, " in after.remarks[-1]
    assert after.predictions.labels.tolist() == [0, 0, 0, 0, 2, 2, 2, 2, 2]
    write_report(run, tmp_path / "report.html")
    assert "Images of val have changed since the training: 6 removed (" in (tmp_path / "report.html").read_text()
    for split in ("train", "val"):
        (root / split / "ant").rename(root / split / "wasp")
    with pytest.raises(DataError, match="unknown: wasp"):
        evaluate_all([run], Request())
