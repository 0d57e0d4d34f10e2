import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_images
from safetensors import safe_open

from rexnet import rexnet
from rexnet.checkpoints.checkpoint import load_trained
from rexnet.cli import main
from rexnet.config import load_config
from rexnet.errors import CheckpointError, ConfigError, DataError, ExportError
from rexnet.evaluation.evaluate import Request, evaluate
from rexnet.evaluation.inference_model import load_inference_model
from rexnet.export import export as module
from rexnet.export.export import export, find_local_images
from rexnet.export.formats import require_official
from rexnet.export.parity import Parity
from rexnet.export.reading import open_onnx, open_program
from rexnet.models.naming import to_official_names
from rexnet.prediction.predict import predict_files
from rexnet.training.classification import train

NAMES = ("ant", "bee", "cow")


@pytest.fixture(scope="module")
def run(image_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of two steps."""
    folder = tmp_path_factory.mktemp("export")
    overrides = [
        "name=small",
        "model.width_mult=0.2",
        "model.depth_mult=0.1",
        "data.image_size=32",
        "data.batch_size=8",
        "data.num_workers=0",
    ]
    overrides += ["schedule.epochs=2", "schedule.warmup_epochs=0.5", "trainer.accelerator=cpu", "optimizer.lr=0.05"]
    overrides += ["trainer.precision=fp32", f"data.root={image_root}", f"trainer.runs_dir={folder}"]
    return train(load_config("finetune/folder.yaml", overrides)).run


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def probabilities(run: Path, pictures: np.ndarray) -> np.ndarray:
    """What the network itself gives, normalised by hand."""
    trained = load_trained(run)
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        result: np.ndarray = trained.model((images - mean.view(3, 1, 1)) / std.view(3, 1, 1)).softmax(1).numpy()
    return result


@pytest.fixture(scope="module")
def parities(run: Path) -> dict[str, Parity]:
    """The parity of every form, written into the run."""
    return export(run, ["onnx", "torch", "safetensors", "official", "int8"])


@pytest.fixture(scope="module")
def exported(run: Path, parities: dict[str, Parity]) -> Path:
    """The folder with every form."""
    return run / "export"


@pytest.mark.parametrize("n", [1, 2, 5])
def test_every_form_takes_bytes_and_gives_the_networks_probabilities(
    n: int, exported: Path, run: Path, pictures: np.ndarray
) -> None:
    expected = probabilities(run, pictures[:n])
    np.testing.assert_allclose(open_onnx(exported / "model.onnx").run(pictures[:n]), expected, atol=1e-5)
    np.testing.assert_allclose(open_program(exported / "model.pt2")(pictures[:n]), expected, atol=1e-5)
    np.testing.assert_allclose(open_onnx(exported / "model-int8.onnx").run(pictures[:n]), expected, atol=0.2)


@pytest.mark.parametrize("name", ["model.onnx", "model-int8.onnx", "model.safetensors"])
def test_a_form_is_opened_as_the_classifier_that_it_came_from(
    name: str, exported: Path, run: Path, pictures: np.ndarray
) -> None:
    opened = load_inference_model(exported / name)
    given = opened.logits(torch.from_numpy(pictures))
    tolerance = 0.2 if "int8" in name else 1e-5
    np.testing.assert_allclose(given.softmax(1), probabilities(run, pictures), atol=tolerance)
    assert given.dtype == torch.float32
    assert (opened.name, opened.class_names, opened.weights) == (name, NAMES, "ema")
    assert opened.preprocessing.image_size == 32


def test_onnx_runtime_keeps_and_sends_nothing_for_its_makers(exported: Path) -> None:
    """It has been imported and has run by now; HOME is a folder of these tests."""
    assert "onnxruntime" in sys.modules
    assert not (Path.home() / ".cache" / "Microsoft").exists()


def test_the_onnx_file_predicts_what_its_run_predicts(
    exported: Path, run: Path, image_root: Path, tmp_path: Path
) -> None:
    tables = []
    for source, batch in ((run, 4), (exported / "model.onnx", 15)):
        predict_files(str(source), [str(image_root / "val")], output=tmp_path / "x.jsonl", batch_size=batch)
        tables.append([json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()])
    assert len(tables[0]) == 15
    for one, other in zip(*tables, strict=True):
        assert one["image"] == other["image"]
        for mine, its in zip(one["classes"], other["classes"], strict=True):
            assert mine["class"] == its["class"]
            assert mine["probability"] == pytest.approx(its["probability"], abs=1e-5)


def test_an_opened_graph_refuses_other_weights_and_another_size(exported: Path, pictures: np.ndarray) -> None:
    with pytest.raises(CheckpointError, match=r"model\.onnx: holds ema weights only, not raw"):
        load_inference_model(exported / "model.onnx", "raw")
    with pytest.raises(ConfigError, match="takes images of 32 px only, not of 16 x 16"):
        load_inference_model(exported / "model.onnx").logits(torch.from_numpy(pictures[:, :16, :16]))


def test_the_report_says_how_near_each_form_is_on_real_images(exported: Path, parities: dict[str, Parity]) -> None:
    assert list(parities) == ["eager", "onnx", "torch", "int8"]
    for name in ("onnx", "torch"):
        assert parities[name].agreement == 100
        assert 0 < parities[name].largest_difference < 1e-4
        assert parities[name].top1 == parities["eager"].top1
        assert parities[name].n == 15
    assert parities["int8"].largest_difference > parities["onnx"].largest_difference
    assert (exported / "model-int8.onnx").stat().st_size < 0.6 * (exported / "model.onnx").stat().st_size
    table = (exported / "parity.md").read_text()
    assert "| onnx " in table
    assert "on 15 images of" in table


def test_the_files_tell_their_classes_and_preprocessing(exported: Path) -> None:
    import onnx

    graph = onnx.load(exported / "model.onnx")
    onnx_says = {entry.key: entry.value for entry in graph.metadata_props}
    with safe_open(exported / "model.safetensors", "pt") as file:
        safetensors_says = file.metadata()
    extra = {"rexnet.json": ""}
    torch.export.load(exported / "model.pt2", extra_files=extra)
    quantised = onnx.load(exported / "model-int8.onnx").metadata_props
    for says in (
        onnx_says, safetensors_says, json.loads(extra["rexnet.json"]), {entry.key: entry.value for entry in quantised}
    ):  # fmt: skip
        assert json.loads(says["class_names"]) == list(NAMES)
        assert json.loads(says["mean"]) == [0.485, 0.456, 0.406]
        assert (says["family"], says["width_mult"], says["num_classes"]) == ("rexnet-v1", "0.2", "3")
        assert (says["image_size"], says["interpolation"]) == ("32", "bicubic")
        assert len(says["config_sha256"]) == 64
    assert [node.name for node in graph.graph.input] == ["images"]
    assert graph.opset_import[0].version == 18


def test_the_float_form_takes_normalised_images(run: Path, pictures: np.ndarray, tmp_path: Path) -> None:
    export(run, ["onnx"], kind="float", output=tmp_path)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    images = ((pictures / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    found = open_onnx(tmp_path / "model-float.onnx").run(images)
    np.testing.assert_allclose(found, probabilities(run, pictures), atol=1e-5)
    opened = load_inference_model(tmp_path / "model-float.onnx").logits(torch.from_numpy(pictures))
    np.testing.assert_allclose(opened.softmax(1), probabilities(run, pictures), atol=1e-5)


def test_an_exported_safetensors_is_evaluated_and_exported_like_its_run(
    exported: Path, run: Path, tmp_path: Path
) -> None:
    here, there = (result.summary for result in evaluate([run, exported / "model.safetensors"], Request()))
    assert (here.top1, here.loss, here.n) == (there.top1, there.loss, there.n)
    with pytest.raises(CheckpointError, match="holds ema weights only, not raw"):
        load_trained(exported / "model.safetensors", "raw")
    export(exported / "model.safetensors", ["safetensors"], output=tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size == (exported / "model.safetensors").stat().st_size


def test_weights_go_on_under_the_authors_names_and_as_a_start_for_others(exported: Path, run: Path) -> None:
    trained = load_trained(run).model.state_dict()
    official = torch.load(exported / "model.pth", weights_only=True)
    assert all(torch.equal(official[name], value) for name, value in to_official_names(trained).items())
    from rexnet.models.pretrained import load_pretrained

    other = rexnet(0.2, num_classes=2, depth_mult=0.1)
    line = load_pretrained(other, str(exported / "model.safetensors"), "rexnet", ("cow", "dog"))
    assert "1 of the 2 here have the same name" in line


def test_a_file_that_differs_from_the_network_is_an_error(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "write_program", lambda trained, deployed, path: path.touch())
    monkeypatch.setattr(module, "open_program", lambda path: lambda images: np.full((len(images), 3), 0.3, np.float32))
    with pytest.raises(ExportError, match=r"torch differs from the network: probabilities by up to .*parity\.md"):
        export(run, ["torch"], output=tmp_path)
    assert main(["export", str(run), "--to", "torch", "--output", str(tmp_path)]) == 1


def test_files_are_compared_on_any_images_of_the_classes_as_in_evaluation(run: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "some" / "cow", 2, hue=0)
    index = find_local_images(load_trained(run), tmp_path / "some", "val")
    assert index is not None
    assert (index.class_names, index.labels.tolist()) == (NAMES, [2, 2])
    write_images(tmp_path / "others" / "dog", 2, hue=0)
    with pytest.raises(DataError, match=r"others: has 1 classes, which should be among the 3 of .*; unknown: dog"):
        find_local_images(load_trained(run), tmp_path / "others", "val")


def test_what_cannot_be_exported_is_one_sentence(run: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        export(run, ["onnx"], output=tmp_path, root=tmp_path / "nowhere")
    torch.save({"a": torch.zeros(1)}, tmp_path / "bare.ckpt")
    with pytest.raises(CheckpointError, match="is not a checkpoint of this program"):
        export(tmp_path / "bare.ckpt", ["onnx"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/model\.safetensors: cannot be written"):
        export(run, ["safetensors"], output=tmp_path / "file")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(
        CheckpointError, match=r"holds bare weights; train or fine-tune from it with model\.pretrained="
    ):
        export(tmp_path / "bare.safetensors", ["onnx"])


@pytest.mark.parametrize(
    ("key", "value"), [("activation", "relu6"), ("variant", "r"), ("channel_divisor", 8), ("name", "timm/resnet18")]
)
def test_what_the_authors_code_would_compute_otherwise_is_not_written_for_it(key: str, value: object) -> None:
    config = load_config("finetune/folder.yaml").model
    require_official(config)
    with pytest.raises(ConfigError, match=f"--to official: the authors' code has no network with model.{key}={value}"):
        require_official(config.model_copy(update={key: value}))


def test_without_the_images_the_file_is_written_and_the_lack_is_said(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*arguments: object) -> None:
        raise DataError("data.root: gone")

    monkeypatch.setattr(module, "find_images", missing)
    monkeypatch.setattr(module, "write_program", lambda trained, deployed, path: path.write_bytes(b"program"))
    monkeypatch.setattr(module, "open_program", lambda path: None)
    assert export(run, ["torch"], output=tmp_path) == {}
    assert (tmp_path / "model.pt2").is_file()
    assert "the files were not compared with the network: the images are not here" in caplog.text
    with pytest.raises(DataError, match="--to int8 calibrates on training images, which are not here"):
        export(run, ["int8"], output=tmp_path)
    assert not (tmp_path / "model-int8.onnx").exists()
