import csv
import functools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch._dynamo.utils import counters

from rexnet.checkpoints.checkpoint import load_trained
from rexnet.checkpoints.temperature import load_fitted, save_temperature, temperature_path
from rexnet.config.load import replace_values
from rexnet.errors import CheckpointError, ConfigError
from rexnet.evaluation import inference_model
from rexnet.evaluation.evaluate import Request, evaluate
from rexnet.evaluation.inference_model import load_inference_model
from rexnet.export.deployed import Deployed
from rexnet.prediction.predict import predict_files
from rexnet.runs.checkpoint_files import find_checkpoint
from rexnet.system.device import Device


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8))


def expected(run: Path, pictures: torch.Tensor) -> torch.Tensor:
    """The network's own logits, normalised by hand."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        return load_trained(run).model(((pictures / 255 - mean) / std).permute(0, 3, 1, 2))


def test_runs_and_checkpoints_give_the_networks_own_logits(trained_run: Path, pictures: torch.Tensor) -> None:
    logits = expected(trained_run, pictures)
    for source in (str(trained_run), find_checkpoint(trained_run)):
        opened = load_inference_model(source)
        torch.testing.assert_close(opened.logits(pictures), logits, atol=1e-5, rtol=0)
        assert (opened.class_names, opened.weights) == (("ant", "bee", "cow"), "ema")
        assert (opened.preprocessing.image_size, opened.preprocessing.interpolation) == (32, "bicubic")
    folded = load_inference_model(trained_run, fold=True).logits(pictures)
    torch.testing.assert_close(folded.softmax(1), logits.softmax(1), atol=1e-5, rtol=0)


def test_a_source_has_a_name_for_tables(trained_run: Path) -> None:
    assert load_inference_model(trained_run).name == trained_run.name
    assert load_inference_model(trained_run / "checkpoints" / "last.ckpt").name == f"{trained_run.name}/last"


@pytest.fixture
def compiled_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiles every job, on the CPU and with a backend that generates no code."""
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(inference_model, "compiling_pays", lambda device, images: True)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))


@pytest.mark.usefixtures("compiled_always")
def test_a_compiled_job_is_one_graph_and_gives_the_same_metrics(trained_run: Path, image_root: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference_model, "compiling_pays", lambda device, images: False)
        (plain,) = evaluate([trained_run], Request())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference_model, "resolve_device", lambda _: Device("cpu", "32-true", True, 8))
        (compiled,) = evaluate([trained_run], Request())
    assert counters["stats"]["unique_graphs"] == 1  # the last batch is smaller
    assert compiled.predictions.logits.shape == (15, 3)
    np.testing.assert_allclose(compiled.predictions.logits, plain.predictions.logits, atol=1e-4)
    assert compiled.summary.loss == pytest.approx(plain.summary.loss, abs=1e-5)


@pytest.mark.usefixtures("compiled_always")
def test_predictions_of_a_compiled_job_are_the_same(trained_run: Path, image_root: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"nothing")
    inputs = [str(image_root / "val"), str(tmp_path / "broken.png")]
    predict_files(str(trained_run), inputs, output=tmp_path / "compiled.csv", batch_size=4)
    assert counters["stats"]["unique_graphs"] == 1  # whatever cannot be read makes a batch smaller
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference_model, "compiling_pays", lambda device, images: False)
        predict_files(str(trained_run), inputs, output=tmp_path / "plain.csv", batch_size=4)
    one, other = (
        list(csv.DictReader((tmp_path / name).read_text().splitlines())) for name in ("compiled.csv", "plain.csv")
    )
    assert len(one) == 16
    for mine, theirs in zip(one, other, strict=True):
        assert mine["class_1"] == theirs["class_1"]
        if not mine["error"]:
            assert float(mine["probability_1"]) == pytest.approx(float(theirs["probability_1"]), abs=1e-4)


def test_compiling_pays_on_a_gpu_from_millions_of_images(trained_run: Path) -> None:
    gpu, cpu = Device("gpu", "bf16-mixed", True), Device("cpu", "32-true", True)
    assert inference_model.compiling_pays(gpu, 4_000_000)
    assert not inference_model.compiling_pays(gpu, 3_999_999)
    assert not inference_model.compiling_pays(cpu, 10**9)
    model = load_inference_model(trained_run)
    assert model.for_job(10**9, (8, 32, 32, 3)) is model


@pytest.mark.usefixtures("compiled_always")
def test_a_network_that_cannot_be_compiled_or_must_repeat_numbers_stays_as_it_is(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(graph: object, inputs: object) -> None:
        raise RuntimeError("No working C++ compiler found")

    model = load_inference_model(trained_run)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=fail))
    assert model.for_job(9, (8, 32, 32, 3)) is model
    assert "is not compiled: backend='fail' raised: RuntimeError: No working C++ compiler found" in caplog.messages[-1]
    assert model.config is not None
    exact = replace(model, config=replace_values(model.config, {"trainer.deterministic": True}))
    monkeypatch.setattr(torch, "compile", None)
    assert exact.for_job(9, (8, 32, 32, 3)) is exact


def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    for source, message in {
        str(tmp_path / "x.onnx"): r"x\.onnx: cannot be read as ONNX",
        str(tmp_path / "x.pt2"): r"x\.pt2: can execute code when it is read; use the run, \.safetensors or \.onnx",
        str(tmp_path / "none.onnx"): r"none\.onnx: no such file",
        str(tmp_path / "x.pth"): r"x\.pth: holds weights without config and classes; .* timm/NAME=",
        str(tmp_path): "holds no checkpoint",
    }.items():
        with pytest.raises(CheckpointError, match=message):
            load_inference_model(source)


def test_a_network_of_timm_takes_its_own_view_and_the_weights_of_a_file(tmp_path: Path, pictures: torch.Tensor) -> None:
    import timm

    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet").eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    opened = load_inference_model(f"timm/test_efficientnet={tmp_path / 'w.safetensors'}")
    with torch.no_grad():
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        logits = network(((pictures / 255 - mean) / std).permute(0, 3, 1, 2))
    torch.testing.assert_close(opened.logits(pictures), logits, atol=1e-4, rtol=1e-4)
    assert (opened.class_names[0], opened.class_names[134], opened.class_names[-1]) == (
        "tench", "crane (n02012849)", "toilet tissue"
    )  # fmt: skip
    assert (opened.preprocessing.image_size, opened.preprocessing.crop_pct) == (160, 0.95)
    with pytest.raises(CheckpointError, match=r"w\.safetensors: does not fit timm/resnet18 with 1,000 classes"):
        load_inference_model(f"timm/resnet18={tmp_path / 'w.safetensors'}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("timm/rexnet_10", "timm .* has no network 'rexnet_10'; nearest: timm/rexnet"),
        ("timm/vit_base_patch16_224.augreg_in21k", "has 21,843 classes, not ImageNet's 1,000"),
        ("timm/coat_lite_medium_384.in1k", "needs crop mode squash"),
        ("timm/rexnet_100.nav_in1kk", "has no weights 'nav_in1kk' of rexnet_100; nearest: timm/rexnet_100.nav_in1k"),
        ("timm/a b", "should be timm/NAME"),
        ("timm/rexnet_100.nav_in1k={tmp}/nowhere.pth", r"/nowhere\.pth: no such weight file"),
    ],
)
def test_a_network_of_timm_that_cannot_be_opened_is_said_so(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((CheckpointError, ConfigError), match=message):
        load_inference_model(source.format(tmp=tmp_path))


def test_a_temperature_belongs_to_one_file(trained_run: Path, pictures: torch.Tensor, tmp_path: Path) -> None:
    checkpoint = tmp_path / "x.ckpt"
    checkpoint.write_bytes(find_checkpoint(trained_run).read_bytes())
    assert load_inference_model(checkpoint).temperature is None
    save_temperature(checkpoint, "ema", 2.0, "val", 15)
    opened = load_inference_model(checkpoint)
    assert (opened.temperature, load_fitted(checkpoint, "raw")[0]) == (2.0, None)
    torch.testing.assert_close(
        opened.probabilities(pictures), (expected(trained_run, pictures) / 2).softmax(1), atol=1e-5, rtol=0
    )
    path = temperature_path(checkpoint, "ema")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": "0" * 64}))
    assert load_fitted(checkpoint, "ema") == (None, None)
    for content, message in (("{}", "cannot be read as a temperature"), (None, "should be a number above 0, not -1")):
        save_temperature(checkpoint, "ema", -1, "val", 15)
        if content is not None:
            path.write_text(content)
        with pytest.raises(CheckpointError, match=message):
            load_trained(checkpoint)


def test_a_temperature_is_inside_of_exports(trained_run: Path, pictures: torch.Tensor) -> None:
    trained = load_trained(trained_run)
    with torch.no_grad():
        calibrated = Deployed(trained._replace(temperature=2.0))(pictures)
    torch.testing.assert_close(calibrated, (expected(trained_run, pictures) / 2).softmax(1), atol=1e-5, rtol=0)
