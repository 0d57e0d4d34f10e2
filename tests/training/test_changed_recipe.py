"""What a resumed run may change, and what not."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import assert_same_tensors, final_state
from pytorch_lightning.callbacks import Callback

from rexnet.config import Config, dump_config, load_config
from rexnet.errors import CheckpointError, ConfigError
from rexnet.training.classification import train
from rexnet.training.resume import Resumed, repair_run


def configured(small_run: list[str], *overrides: str) -> Config:
    return load_config("finetune/folder.yaml", [*small_run, *overrides])


def test_a_changed_recipe_acts_where_it_is_allowed(small_run: list[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "rexnet")
    run = train(configured(small_run, "trainer.max_steps=3", "trainer.accumulate=2")).run
    rates: list[float] = []

    class Rates(Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    changed = configured(
        small_run, "schedule.epochs=4", "optimizer.lr=0.08", "optimizer.weight_decay=0.5", "trainer.accumulate=1"
    )
    with pytest.raises(ConfigError, match=r"--allow-change optimizer\.lr --allow-change optimizer\.weight_decay"):
        train(changed, resume=run)
    allowed = ["schedule", "optimizer.lr", "optimizer.weight_decay", "trainer.accumulate"]
    rest = train(changed, resume=run, allowed=allowed, callbacks=[Rates()])
    straight = train(configured(small_run, "schedule.epochs=4", "optimizer.lr=0.08"), callbacks=[Rates()])
    assert rest.step == straight.step == 12
    assert rates[:9] == pytest.approx(rates[9 + 3 :], rel=1e-12)
    assert final_state(rest.run)["optimizer_states"][0]["param_groups"][0]["weight_decay"] == 0.5
    assert (
        "The run now has schedule.epochs=4 instead of 2: at step 3 the learning rate goes from 0.04269 to 0.07804"
        in caplog.text
    )
    assert load_config(run / "config.yaml").optimizer.lr == 0.08
    assert load_config(run / "config-until-step3.yaml").optimizer.lr == 0.05


@pytest.mark.parametrize(
    ("change", "is_written"),
    [("trainer.accumulate=2", True), ("data.image_size=40", True), ("data.num_workers=1", False)],
)
def test_every_changed_key_of_the_recipe_is_written_down(
    change: str, is_written: bool, small_run: list[str], tmp_path: Path
) -> None:
    """Else the next `--resume`, as of a requeued job, would go back to the old value, and be refused."""
    old, new = configured(small_run), configured(small_run, change)
    (tmp_path / "config.yaml").write_text(dump_config(old))
    module: Any = SimpleNamespace(config=new)
    repair_run(Resumed(tmp_path / "checkpoints" / "last.ckpt", tmp_path, 7, old, ("ant", "bee"), 3, {}), module)
    assert load_config(tmp_path / "config.yaml") == (new if is_written else old)
    assert (tmp_path / "config-until-step7.yaml").is_file() == is_written


def test_more_epochs_of_cool_down_need_no_permission(small_run: list[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "rexnet")
    run = train(configured(small_run))
    longer = train(configured(small_run, "schedule.cooldown_epochs=1"), resume=run.run)
    assert longer.step == 9
    assert "schedule.cooldown_epochs=1 instead of 0: at step 6 the learning rate stays at 0.0001" in caplog.text
    straight = train(configured(small_run, "schedule.cooldown_epochs=1"))
    assert_same_tensors(final_state(straight.run)["state_dict"], final_state(longer.run)["state_dict"])


@pytest.mark.parametrize(
    ("change", "allowed", "message"),
    [
        (["data.batch_size=4"], ["data.batch_size"], r"data\.batch_size goes from 8 to 4 cannot change within a run"),
        (["model.width_mult=0.3"], ["model"], r"model\.width_mult goes from 0\.2 to 0\.3 cannot change"),
        (["ema=null"], ["ema"], r"ema\.decay goes from .* to None.* cannot change within a run"),
        (
            ["schedule.epochs=1", "schedule.warmup_epochs=0.2"],
            ["schedule"],
            r"schedule\.epochs: 1 .* has already trained 1",
        ),
        (
            ["trainer.accumulate=2"],
            ["trainer.accumulate"],
            r"trainer\.accumulate: can change only at the end",
        ),
        ([], ["optimizer.lrr"], r"--allow-change optimizer\.lrr: no such key"),
    ],
    ids=str,
)
def test_what_cannot_change_is_refused_even_when_allowed(
    change: list[str], allowed: list[str], message: str, four_steps: Path, small_run: list[str]
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(configured(small_run, *change), resume=four_steps, allowed=allowed)


@pytest.fixture(scope="module")
def four_steps(tmp_path_factory: pytest.TempPathFactory, image_root: Path) -> Path:
    """The folder of a run that was stopped in its second epoch."""
    from conftest import SMALL_RUN

    runs = tmp_path_factory.mktemp("runs")
    settings = [*SMALL_RUN, f"data.root={image_root}", f"trainer.runs_dir={runs}", "trainer.max_steps=4"]
    return train(load_config("finetune/folder.yaml", settings)).run


def test_other_training_images_are_refused(
    four_steps: Path, small_run: list[str], image_root: Path, tmp_path: Path
) -> None:
    root = tmp_path / "fewer"
    shutil.copytree(image_root, root)
    for path in (root / "train" / "ant").iterdir():
        if path.name > "000.png":
            path.unlink()
    with pytest.raises(ConfigError, match=r"gives 2 steps an epoch, but the run at .* began with 3"):
        train(configured(small_run, f"data.root={root}"), resume=four_steps, allowed=["data"])


def test_a_checkpoint_of_other_tensor_types_is_refused(four_steps: Path, small_run: list[str], tmp_path: Path) -> None:
    run = tmp_path / "copy"
    shutil.copytree(four_steps, run)
    last = run / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    content["state_dict"]["model.head.fc.bias"] = content["state_dict"]["model.head.fc.bias"].double()
    torch.save(content, last)
    with pytest.raises(CheckpointError, match=r"1 tensors differ, such as model\.head\.fc\.bias"):
        train(configured(small_run), resume=run)
    assert json.loads(content["rexnet"]["config"])["name"] == "small"
