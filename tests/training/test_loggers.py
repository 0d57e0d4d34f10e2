"""W&B and MLflow: stand-ins record what they get; if the packages are installed, their files are read back."""

import importlib
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from rexnet.config import Config, load_config
from rexnet.errors import ConfigError
from rexnet.training import loggers as module
from rexnet.training.classification import train

SMALL = ("model.depth_mult=0.1", "trainer.log_every_steps=3")


class Tracker(Logger):
    """Writes down what Lightning's logger of a tracker is asked for; its own client at once."""

    opened: ClassVar[list["Tracker"]]

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options, self.recipe, self.points, self.calls = options, {}, [], []
        self.run_id = options.get("id") or options.get("run_id") or "made"
        self.opened.append(self)

    name, version = property(lambda self: "tracker"), property(lambda self: self.run_id)
    experiment = property(lambda self: self)

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        self.recipe = params

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.points += [(step, name) for name in metrics]

    def finish(self, exit_code: int) -> None:
        self.calls.append(("finish", exit_code))


@pytest.fixture
def trackers(monkeypatch: pytest.MonkeyPatch) -> list[Tracker]:
    """The trackers of a run, in the order in which they were created."""
    opened: list[Tracker] = []
    for name in ("WandbLogger", "MLFlowLogger"):
        monkeypatch.setattr(module, name, type(name, (Tracker,), {"opened": opened}))
    monkeypatch.setattr(module, "find_spec", lambda _: True)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")  # so that what training sets is undone
    for variable in ("WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(variable, raising=False)
    return opened


def test_trackers_get_recipe_and_metrics_and_a_resumed_run_is_a_new_entry_of_the_same_name(
    trackers: list[Tracker], small_run: list[str]
) -> None:
    settings = [*small_run, *SMALL, "trainer.loggers=[wandb,mlflow]"]
    run = train(load_config("finetune/folder.yaml", [*settings, "trainer.max_steps=3"])).run
    train(load_config("finetune/folder.yaml", settings), resume=run)
    wandb, mlflow, wandb_again, mlflow_again = trackers
    assert wandb.options["save_dir"] == run
    assert (wandb.options["project"], mlflow.options["experiment_name"]) == ("small", "small")
    assert (wandb.options["name"], mlflow.options["run_name"]) == (run.name, run.name)
    assert mlflow.options["tracking_uri"] == f"sqlite:///{run.parent / 'mlflow.db'}"
    assert wandb.recipe["optimizer.lr"] == mlflow.recipe["optimizer.lr"] == 0.05
    assert (wandb_again.options, mlflow_again.options) == (wandb.options, mlflow.options)
    assert wandb_again.recipe == {**wandb.recipe, "trainer.max_steps": None}
    assert wandb.calls == wandb_again.calls == [("finish", 0)]
    assert (6, "final/best_top1") in wandb_again.points
    for points in (wandb.points + wandb_again.points, mlflow.points + mlflow_again.points):
        assert [step for step, name in points if name == "train/loss"] == [3, 6]
        assert [step for step, name in points if name == "val_ema/top1"] == [3, 6]


def test_a_tracker_that_does_not_start_is_one_sentence(
    trackers: list[Tracker], small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Tracker, *_: Any) -> None:
        raise RuntimeError("No API key configured. Use wandb login.")

    monkeypatch.setattr(module.WandbLogger, "log_hyperparams", refuse)
    trainer = small_config.trainer.model_copy(update={"loggers": ("wandb",)})
    message = (
        r"^trainer\.loggers: wandb does not start: RuntimeError: No API key configured; "
        r"wandb login, or WANDB_MODE=offline, may help$"
    )
    with pytest.raises(ConfigError, match=message):
        train(small_config.model_copy(update={"trainer": trainer}))


def test_what_the_trackers_users_set_wins(
    trackers: list[Tracker], small_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    trainer = small_config.trainer.model_copy(update={"loggers": ("wandb", "mlflow")})
    module.build_loggers(small_config.model_copy(update={"trainer": trainer}), tmp_path, 0)
    wandb, mlflow = trackers
    assert wandb.options["project"] == "mine"
    assert (mlflow.options["tracking_uri"], mlflow.options["experiment_name"]) == ("http://127.0.0.1:5000", "theirs")
    assert mlflow.options["artifact_location"] is None


def test_a_tracker_that_is_lost_stops_no_run_and_is_reported_once(
    trackers: list[Tracker], small_run: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fail(tracker: Tracker, *_: object, **__: object) -> None:
        asked.append(str(tracker.version))
        raise ConnectionError("the server is down. Try again")

    for name in ("log_metrics", "finish", "finalize"):
        monkeypatch.setattr(Tracker, name, fail)
    settings = [*small_run, *SMALL, "trainer.loggers=[wandb,mlflow]", "schedule.epochs=1", "schedule.warmup_epochs=0"]
    run = train(load_config("finetune/folder.yaml", settings)).run
    assert (run / "metrics.csv").read_text().count("\n") == 2
    assert len(asked) == 3  # each once, and W&B for the end
    for kind in ("wandb", "mlflow"):
        message = f"trainer.loggers: {kind} is lost: ConnectionError: the server is down; training continues without it"
        assert caplog.text.count(message) == 1


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_logger_whose_package_is_missing_is_refused_before_the_run(
    small_config: Config, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == kind else True)
    trainer = small_config.trainer.model_copy(update={"loggers": (kind,)})
    message = rf"{kind} is not installed; run `pip install 'rexnet-lightning\[{kind}\]'`"
    with pytest.raises(ConfigError, match=message):
        train(small_config.model_copy(update={"trainer": trainer}))
    assert not small_config.trainer.runs_dir.exists()
    assert kind not in sys.modules


@pytest.mark.filterwarnings("ignore")  # those of libraries that are not pinned here
@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_an_installed_tracker_writes_next_to_or_into_the_run_folder(
    kind: str, small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(kind)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    settings = [*small_run, *SMALL, f"trainer.loggers=[{kind}]"]
    run = train(load_config("finetune/folder.yaml", [*settings, "trainer.max_steps=3"])).run
    train(load_config("finetune/folder.yaml", settings), resume=run)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    if kind == "wandb":
        assert len(list(run.glob("wandb/offline-run-*/*.wandb"))) == 2  # one for each session
        return
    tracking: Any = importlib.import_module("mlflow.tracking")
    client = tracking.MlflowClient(f"sqlite:///{run.parent / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    assert [(each.info.run_name, each.info.status) for each in found] == [(run.name, "FINISHED")] * 2
    assert {each.data.params["optimizer.lr"] for each in found} == {"0.05"}
    histories = [client.get_metric_history(each.info.run_id, "val_ema/top1") for each in found]
    assert sorted(point.step for history in histories for point in history) == [3, 6]
