"""Runs the code of docs/python.md, and tests the Python API beyond it."""

import logging
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import timm
import yaml
from conftest import SMALL_RUN
from safetensors.torch import save_file

import rexnet
from rexnet.config import load_config
from rexnet.data.sources.decode import decode_image
from rexnet.errors import CheckpointError, ConfigError, DataError
from rexnet.evaluation.evaluate import Request, evaluate

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
SMALL = {key: yaml.safe_load(value) for key, value in (override.split("=") for override in SMALL_RUN)}


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Nothing is printed by the API."""
    yield
    assert capfd.readouterr() == ("", "")


def small_overrides(image_root: Path, folder: Path) -> dict[str, object]:
    return {**SMALL, "data.root": image_root, "trainer.runs_dir": folder / "runs", "schedule.epochs": 2}


def test_the_page_runs_as_it_stands(
    image_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)  # pytest has its own handlers
    PIL.Image.open(image_root / "val" / "ant" / "000.png").save("photo.jpg")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    small = ", ".join(f'"{key}": {value!r}' for key, value in SMALL.items())
    code = code.replace('"data.root": "/path/to/images"', f'{small}, "data.root": {str(image_root)!r}')
    names: dict[str, object] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    printed = capfd.readouterr().out.splitlines()
    assert printed[0].split()[1].startswith("runs/small-")
    assert [line.count("'") for line in printed[1:4]] == [4, 4, 4]  # two class names each
    assert printed[4].endswith(" 15")
    assert printed[5].startswith("100.0 ")
    assert names["onnx_model"].class_names == ("ant", "bee", "cow")  # type: ignore[attr-defined]


def test_training_twice_and_resuming_needs_no_command_line(image_root: Path, tmp_path: Path) -> None:
    handled = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in handled]
    overrides = small_overrides(image_root, tmp_path)
    first = rexnet.train("finetune/folder", {**overrides, "trainer.max_steps": 3})
    assert (first.step, first.best_checkpoint is not None) == (3, True)
    resumed = rexnet.train(resume=first.run, overrides=["trainer.max_steps=null"])
    assert (resumed.step, resumed.run) == (6, first.run)
    config = load_config(
        "finetune/folder", [*SMALL_RUN, f"data.root={image_root}", f"trainer.runs_dir={tmp_path / 'runs'}"]
    )
    again = rexnet.train(config, {"trainer.max_steps": 6})
    assert again.run != first.run
    assert again.metrics["best_top1"] == resumed.metrics["best_top1"]
    assert [signal.getsignal(number) for number in handled] == before
    with pytest.raises(ConfigError, match="needs a config for a new run, or resume=RUN"):
        rexnet.train()


def test_training_works_in_another_thread(image_root: Path, tmp_path: Path) -> None:
    steps = []

    def work() -> None:
        overrides = {**small_overrides(image_root, tmp_path), "trainer.max_steps": 1}
        steps.append(rexnet.train("finetune/folder", overrides).step)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert steps == [1]


def test_paths_arrays_and_pil_images_give_the_same_prediction(trained_run: Path, image_root: Path) -> None:
    path = image_root / "val" / "bee" / "001.png"
    model = rexnet.load(trained_run)
    pixels = decode_image(str(path))
    with PIL.Image.open(path) as image:
        predictions = [*model.predict(path), *model.predict([str(path), pixels]), *model.predict(image)]
        predictions += [*model.predict(np.stack([pixels, pixels])), *model.predict(image.convert("RGBA"))]
    assert len(predictions) == 7
    for prediction in predictions:  # in batches of other sizes, which may change the last digit
        assert prediction.class_names == predictions[0].class_names
        assert prediction.probabilities == pytest.approx(predictions[0].probabilities, abs=1e-6)
    assert sorted(predictions[0].class_names) == ["ant", "bee", "cow"]
    assert sum(predictions[0].probabilities) == pytest.approx(1, abs=1e-6)
    assert len(model.predict(path, top=2)[0].class_names) == 2
    assert model.predict([]) == []


def test_a_pil_image_is_turned_upright_and_laid_on_white_as_a_file_is(trained_run: Path, tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype=np.uint8)
    image = PIL.Image.fromarray(rgba)
    image.getexif()[0x0112] = 6
    image.save(tmp_path / "x.png", exif=image.getexif())
    model = rexnet.load(trained_run)
    assert model.predict(image) == model.predict(tmp_path / "x.png")


def test_what_is_no_image_is_one_sentence(trained_run: Path, tmp_path: Path) -> None:
    model = rexnet.load(trained_run)
    with pytest.raises(DataError, match=r"should be an RGB image of uint8 \(H, W, 3\), not float64 \(4, 4, 3\)"):
        model.predict(np.zeros((4, 4, 3)))
    (tmp_path / "x.png").write_text("no image")
    with pytest.raises(DataError, match=r"x\.png: is not an image"):
        model.predict(tmp_path / "x.png")
    with pytest.raises(CheckpointError, match="nowhere: no such run folder or checkpoint"):
        rexnet.load("nowhere")


def test_what_has_no_weights_to_export_is_one_sentence(tmp_path: Path) -> None:
    save_file(timm.create_model("test_efficientnet").state_dict(), tmp_path / "w.safetensors")
    model = rexnet.load(f"timm/test_efficientnet={tmp_path / 'w.safetensors'}")
    with pytest.raises(ConfigError, match=r"only runs, checkpoints and \.safetensors files can be exported"):
        model.export(["onnx"], tmp_path)
    with pytest.raises(ConfigError, match="has no images of its own; name some with --data"):
        model.evaluate()


def test_metrics_are_those_of_the_command(trained_run: Path, image_root: Path) -> None:
    model = rexnet.load(trained_run, "raw")
    expected = evaluate([trained_run], Request("train", weights=("raw",)))[0].summary
    assert model.evaluate(split="train") == expected
    assert model.evaluate(image_root, "train") == expected
    assert expected.n == 24
