"""Compiled steps, CUDA graphs, padding and resume on a GPU; `benchmarks/gpu.sh` runs them there."""

import numpy as np
import pytest
import torch
from conftest import assert_same_tensors, final_state
from torch._dynamo.utils import counters

from rexnet.config import Config, load_config
from rexnet.evaluation import inference_model
from rexnet.evaluation.evaluate import Request, evaluate
from rexnet.evaluation.inference_model import load_inference_model
from rexnet.training.classification import train

ACCELERATOR = "gpu"
RANDOM = ["model.dropout=0.2", "model.drop_path=0.2", "augmentation.mixup=0.2", "optimizer.clip_grad=1"]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
    pytest.mark.filterwarnings("default"),  # the compiler warns of what it cannot use
]


def configured(small_run: list[str], *overrides: str) -> Config:
    device = [f"trainer.accelerator={ACCELERATOR}", "trainer.devices=1", "trainer.precision=bf16"]
    return load_config("finetune/folder.yaml", [*small_run, *device, *overrides])


def test_a_deterministic_run_resumes_bit_for_bit(small_run: list[str]) -> None:
    keys = [*RANDOM, "trainer.deterministic=true"]
    whole = train(configured(small_run, *keys)).run
    stopped = train(configured(small_run, *keys, "trainer.max_steps=4")).run
    train(configured(small_run, *keys), stopped)
    one, other = final_state(whole), final_state(stopped)
    for part in ("state_dict", "optimizer_states"):
        assert_same_tensors(one[part], other[part])
    for result in evaluate([whole], Request(weights=("raw", "ema"))):
        assert result.summary.top1 == result.logged


def test_compiled_steps_learn_as_eager_ones_and_resume(small_run: list[str]) -> None:
    compiled = [*RANDOM, "trainer.compile=true"]
    counters.clear()
    whole = train(configured(small_run, *compiled))
    assert counters["stats"]["unique_graphs"] == 1
    assert counters["graph_break"] == {}
    eager = train(configured(small_run, *RANDOM))
    assert whole.metrics["val/loss"] == pytest.approx(eager.metrics["val/loss"], rel=0.2)  # dropout differs
    stopped = train(configured(small_run, *compiled, "trainer.max_steps=4")).run
    again = train(configured(small_run, *compiled), stopped)
    assert again.metrics["val/loss"] == pytest.approx(whole.metrics["val/loss"], rel=0.02)


def test_graphs_are_replayed_and_change_nothing(small_run: list[str]) -> None:
    keys = [*RANDOM, "trainer.compile=true", "schedule.epochs=4"]
    plain = train(configured(small_run, *keys))
    counters.clear()
    graphs = train(configured(small_run, *keys, "trainer.cuda_graphs=true"))
    assert counters["inductor"]["cudagraph_skips"] == 0
    assert graphs.metrics["val/loss"] == pytest.approx(plain.metrics["val/loss"], rel=0.02)


def test_padding_and_compiling_change_no_class(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = train(configured(small_run, "schedule.epochs=4")).run
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8))
    padded = load_inference_model(run).logits(images)
    (plain,) = evaluate([run], Request())
    monkeypatch.setattr(inference_model, "compiling_pays", lambda device, images: True)
    (compiled,) = evaluate([run], Request())
    np.testing.assert_allclose(compiled.predictions.logits, plain.predictions.logits, atol=0.05)
    monkeypatch.setattr(inference_model, "pad_channels", lambda network, multiple: network)
    torch.testing.assert_close(load_inference_model(run).logits(images), padded, atol=0.05, rtol=0)
