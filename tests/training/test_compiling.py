"""Compiled steps, with backends of torch.compile that trace as the real one does, but generate no code."""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_same_tensors, final_state
from torch import nn
from torch._dynamo.utils import counters

from rexnet.config import Config, load_config
from rexnet.config.schema import TrainerConfig
from rexnet.errors import ConfigError
from rexnet.evaluation.evaluate import Request, evaluate
from rexnet.system.device import Device
from rexnet.training import compiling
from rexnet.training.classification import train
from rexnet.training.classifier import Classifier
from rexnet.training.compiling import compile_steps

RANDOM = ["model.dropout=0.2", "model.drop_path=0.2", "augmentation.mixup=0.2"]
COMPILED = "trainer.compile=true"


def configured(small_run: list[str], *overrides: str) -> Config:
    return load_config("finetune/folder.yaml", [*small_run, *overrides])


@pytest.fixture
def use_backend(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Compiles with another backend than inductor, and counts anew."""
    plain = nn.Module.compile

    def use(name: str) -> None:
        torch._dynamo.reset()
        counters.clear()
        monkeypatch.setattr(
            nn.Module, "compile", lambda self, mode, dynamic: plain(self, dynamic=dynamic, backend=name)
        )

    return use


def test_a_run_compiles_one_graph_and_learns_the_same(small_run: list[str], use_backend: Callable[[str], None]) -> None:
    use_backend("eager")
    keys = [*RANDOM, "trainer.pad_channels=8", "trainer.precision=bf16"]
    run = train(configured(small_run, *keys, COMPILED)).run
    assert counters["stats"]["unique_graphs"] == 1  # none for validation, nor its last batch
    assert counters["graph_break"] == {}
    plain = train(configured(small_run, *keys)).run
    state = final_state(run)
    assert not any("_orig_mod" in name for name in state["state_dict"])
    assert_same_tensors(state["state_dict"], final_state(plain)["state_dict"])
    for result in evaluate([run], Request(weights=("raw", "ema"))):
        assert result.summary.top1 == result.logged


@pytest.mark.parametrize("first", [True, False])
def test_a_compiled_run_resumes_uncompiled_and_the_reverse(
    first: bool, small_run: list[str], use_backend: Callable[[str], None]
) -> None:
    use_backend("eager")
    whole = train(configured(small_run, *RANDOM, f"trainer.compile={first}")).run
    stopped = train(configured(small_run, *RANDOM, f"trainer.compile={first}", "trainer.max_steps=4")).run
    other = configured(small_run, *RANDOM, f"trainer.compile={not first}")
    with pytest.raises(ConfigError, match=r"trainer\.compile"):
        train(other, stopped)
    train(other, stopped, allowed=["trainer.compile"])
    assert counters["stats"]["unique_graphs"] == 1
    assert_same_tensors(final_state(stopped)["state_dict"], final_state(whole)["state_dict"])


def test_gradient_checkpointing_counts_each_batch_once(
    small_run: list[str], use_backend: Callable[[str], None]
) -> None:
    use_backend("aot_eager")
    keys = ["model.grad_checkpointing=true", "schedule.epochs=1"]
    run, plain = train(configured(small_run, *keys, COMPILED)).run, train(configured(small_run, *keys)).run
    assert counters["stats"]["unique_graphs"] == 1
    assert_same_tensors(final_state(run)["state_dict"], final_state(plain)["state_dict"])


@pytest.mark.slow
def test_each_stage_of_unfreezing_has_its_graph(small_run: list[str], use_backend: Callable[[str], None]) -> None:
    use_backend("eager")
    stages = ["optimizer.unfreeze_epochs=9", "schedule.epochs=10", "trainer.val_every_epochs=10"]
    train(configured(small_run, *stages, COMPILED))
    assert counters["stats"]["unique_graphs"] == 8  # layers; more than PyTorch would compile by default


@pytest.mark.slow
def test_a_teacher_of_features_breaks_no_graph(
    small_run: list[str], trained_run: Path, use_backend: Callable[[str], None]
) -> None:
    use_backend("eager")
    keys = [*RANDOM, f"distillation.teacher={trained_run}", "distillation.feature_weight=2"]
    run, plain = (train(configured(small_run, *keys, compiled)).run for compiled in (COMPILED, "seed=0"))
    assert (counters["stats"]["unique_graphs"], counters["graph_break"]) == (1, {})
    assert_same_tensors(final_state(run)["state_dict"], final_state(plain)["state_dict"])


@pytest.mark.slow
def test_each_image_size_has_its_graph(small_run: list[str], use_backend: Callable[[str], None]) -> None:
    use_backend("eager")
    growing = ["augmentation.image_size={start: 32, end: 96}", "schedule.epochs=3"]
    run, plain = (train(configured(small_run, *growing, compiled)).run for compiled in (COMPILED, "seed=0"))
    assert counters["stats"]["unique_graphs"] == 3
    assert_same_tensors(final_state(run)["state_dict"], final_state(plain)["state_dict"])


@pytest.mark.slow
def test_the_real_compiler_repeats_itself_when_a_run_resumes(small_run: list[str]) -> None:
    keys = [*RANDOM, COMPILED]
    whole = train(configured(small_run, *keys))
    stopped = train(configured(small_run, *keys, "trainer.max_steps=4")).run
    train(configured(small_run, *keys), stopped)
    assert_same_tensors(final_state(stopped)["state_dict"], final_state(whole.run)["state_dict"])
    eager = train(configured(small_run, *RANDOM))
    assert whole.metrics["val/loss"] == pytest.approx(eager.metrics["val/loss"], rel=0.2)  # other dropout masks


TWO_PROCESSES = """
import sys
import torch
from torch import nn
from torch._dynamo.utils import counters
from rexnet.config import load_config
from rexnet.training.classification import train

torch.set_num_threads(1)
plain = nn.Module.compile
nn.Module.compile = lambda self, mode, dynamic: plain(self, dynamic=dynamic, backend="aot_eager")
if __name__ == "__main__":
    config = load_config("finetune/folder.yaml", sys.argv[1:])
    train(config)
    assert counters["stats"]["unique_graphs"] == config.trainer.compile, counters
"""


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_two_processes_compile_one_graph_each(checkpointing: bool, small_run: list[str], tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(TWO_PROCESSES)
    states = []
    for compiled in (True, False):
        keys = [*small_run, *RANDOM, "trainer.devices=2", f"model.grad_checkpointing={checkpointing}"]
        keys += [f"trainer.compile={compiled}", f"trainer.runs_dir={tmp_path / str(compiled)}"]
        subprocess.run([sys.executable, str(program), *keys], check=True, timeout=600)
        (run,) = (tmp_path / str(compiled)).iterdir()
        states.append(final_state(run)["state_dict"])
    assert_same_tensors(*states)


def test_graphs_need_the_compiler(small_run: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"trainer: cuda_graphs needs compile=true"):
        configured(small_run, "trainer.cuda_graphs=true")


@pytest.mark.parametrize(
    ("accelerator", "keys", "checkpointing", "processes", "sizes", "obstacles"),
    [
        ("gpu", {}, False, 1, 1, ""),
        ("cpu", {}, False, 1, 1, "on a CPU"),
        ("gpu", {"accumulate": 2}, False, 1, 1, "with trainer.accumulate"),
        ("gpu", {}, True, 2, 1, "in 2 processes and with model.grad_checkpointing"),
        ("gpu", {}, False, 1, 3, "with a growing augmentation.image_size"),
    ],
)
def test_graphs_are_used_where_they_work(
    accelerator: Any,
    keys: dict[str, Any],
    checkpointing: bool,
    processes: int,
    sizes: int,
    obstacles: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    modes: list[str | None] = []
    monkeypatch.setattr(compiling, "resolve_device", lambda _: Device(accelerator, "bf16-mixed", True))
    monkeypatch.setattr(nn.Module, "compile", lambda self, mode, dynamic: modes.append(mode))
    network, keys = nn.Linear(2, 2), {"compile": True, **keys}
    with caplog.at_level(logging.WARNING):
        assert compile_steps(network, TrainerConfig(cuda_graphs=True, **keys), checkpointing, processes, sizes) == (
            not obstacles
        )
        assert not compile_steps(network, TrainerConfig(**keys), checkpointing, processes, sizes)
    assert modes == [None if obstacles else "reduce-overhead", None]
    sentence = f"trainer.cuda_graphs: off, since CUDA graphs do not work {obstacles}"
    assert caplog.messages == [sentence] * bool(obstacles)


def test_a_missing_compiler_is_one_sentence(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: object, inputs: object) -> None:
        raise RuntimeError("No working C++ compiler found")

    plain = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, mode, dynamic: plain(self, dynamic=dynamic, backend=fail))
    message = r"^trainer\.compile: .*: No working C\+\+ compiler found; set trainer\.compile=false to train without it$"
    with pytest.raises(ConfigError, match=message):
        train(configured(small_run, COMPILED))


def test_no_gradient_outlives_a_step_of_graphs(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The next replay would overwrite it."""
    gradients: list[int] = []
    step = Classifier.training_step

    def watched(self: Classifier, batch: Any, batch_idx: int) -> torch.Tensor:
        gradients.append(sum(parameter.grad is not None for parameter in self.model.parameters()))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", watched)
    plain = train(configured(small_run, *RANDOM, "schedule.epochs=1")).run
    assert gradients[0] == 0
    assert gradients[1] > 0
    gradients.clear()
    monkeypatch.setattr("rexnet.training.training_module.compile_steps", lambda *_: True)
    run = train(configured(small_run, *RANDOM, COMPILED, "schedule.epochs=1")).run
    assert gradients == [0, 0, 0]
    assert_same_tensors(final_state(run)["state_dict"], final_state(plain)["state_dict"])
