"""Tests of studies/features.py."""

import csv
import json
import logging
from pathlib import Path

import pytest
import timm
import torch
from conftest import SMALL_RUN
from torch import nn

from rexnet.checkpoints.checkpoint import load_trained
from rexnet.cli import main
from rexnet.config import load_config
from rexnet.data.augment.batch import normalize
from rexnet.data.augment.transforms import build_eval_transform
from rexnet.data.dataset import ImageDataset
from rexnet.data.loaders import build_eval_loader
from rexnet.evaluation.evaluate import images_of
from rexnet.evaluation.inference_model import load_inference_model
from rexnet.models.factory import rexnet
from rexnet.models.padding import pad_channels
from rexnet.studies.features import find_blocks, measure_sources
from rexnet.training.classification import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, image_root: Path) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    changes = [*SMALL_RUN, "schedule.epochs=1", f"data.root={image_root}", f"trainer.runs_dir={runs}"]
    return train(load_config("finetune/folder.yaml", changes)).run


def test_the_command_writes_figure_and_tables_of_a_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert main(["study", "features", str(run), "--out", str(tmp_path)]) == 0
    assert "the rank is at most that of 15 images, below 256 features" in caplog.text
    assert capsys.readouterr().out.startswith("network ")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"features.{kind}" for kind in ("csv", "json", "png", "svg")
    ]
    rows = list(csv.DictReader((tmp_path / "features.csv").read_text().splitlines()))
    network = load_trained(run, None).model
    assert [row["name"] for row in rows] == [f"features.{block}" for block in range(7)] + ["classifier input"]
    assert [int(row["channels"]) for row in rows[:-1]] == [*(block.out_channels for block in network.plan.blocks), 256]
    content = json.loads((tmp_path / "features.json").read_text())
    assert len(content[run.name]) == 15


def test_the_values_are_those_of_the_features_in_fp32(run: Path) -> None:
    (measured,) = measure_sources([str(run)], None, "val")
    model = load_inference_model(str(run))
    dataset = ImageDataset(images_of(model, "val", None)[0], build_eval_transform(model.preprocessing))
    images = torch.cat([batch.images for batch in build_eval_loader(dataset, 8, model.loader)])
    network = load_trained(run, None).model.eval()
    with torch.inference_mode():
        inputs = normalize(images, model.preprocessing.mean, model.preprocessing.std)
        features = network.forward_head(network.forward_features(inputs), pre_logits=True)
    assert measured.singular_values == pytest.approx(torch.linalg.svdvals(features).tolist(), rel=1e-3, abs=1e-5)


def test_blocks_of_timm_and_of_padded_networks() -> None:
    names = [name for name, *_ in find_blocks(timm.create_model("mobilenetv2_100"))]
    assert len(names) == 17
    assert (names[0], names[-1]) == ("blocks.0.0", "blocks.6.0")
    names = [name for name, *_ in find_blocks(timm.create_model("resnet18"))]
    assert names == [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    padded = pad_channels(rexnet(0.9), 8)
    found = list(find_blocks(padded))
    assert [width for *_, width in found][:3] == [16, 26, 36]
    assert isinstance(found[1][1], nn.Module)
    assert found[1][1].conv_pwl.conv.out_channels == 32


def test_what_has_no_layers_or_images_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "features", str(tmp_path / "gone")]) == 2
    assert "gone" in capsys.readouterr().err
