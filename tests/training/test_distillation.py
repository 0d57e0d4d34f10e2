import copy
import logging
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import assert_same_tensors, final_state
from torch import Tensor, nn

from rexnet.checkpoints.checkpoint import Trained, load_trained
from rexnet.config import Config, load_config
from rexnet.config.schema import DistillationConfig
from rexnet.data.augment.batch import normalize
from rexnet.errors import ConfigError
from rexnet.models.factory import rexnet
from rexnet.models.rexnet import ReXNet
from rexnet.preprocessing import Preprocessing
from rexnet.runs.resume_rules import load_run_config
from rexnet.system.device import resolve_device
from rexnet.training.classification import build_classifier, train
from rexnet.training.distillation import (
    Distillation,
    feature_distance,
    imitation_loss,
    load_distillation,
    sha256_of_weights,
)

NAMES = ("ant", "bee", "cow")
STUDENT = torch.tensor([[0.0, math.log(3.0)]])  # softmax: 1/4 and 3/4
TAUGHT = torch.tensor([[math.log(3.0), 0.0]])  # 3/4 and 1/4


def configured(small_run: list[str], teacher: Path | str, *overrides: str) -> Config:
    return load_config("finetune/folder.yaml", [*small_run, f"distillation.teacher={teacher}", *overrides])


class ChannelMeans(nn.Module):
    """A teacher with one class for each channel, and further ones with logits of 0."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.dropout, self.classes = nn.Dropout(0.5), classes

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[2] != 20, "20 px are too few"
        means = images.mean((2, 3))
        return self.dropout(torch.cat([means, means.new_zeros(len(images), self.classes - 3)], 1))


def load_stand_in(
    monkeypatch: pytest.MonkeyPatch, config: Config, names: tuple[str, ...], wanted: tuple[str, ...] = NAMES
) -> Distillation:
    """Loads a teacher of these classes with mean and std 0.5."""
    own = Preprocessing(32, 0.875, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), names)
    trained = Trained(ChannelMeans(len(names)), own, config, "raw", Path("run"), {})
    monkeypatch.setattr("rexnet.training.distillation.load_trained", lambda path: trained)
    monkeypatch.setattr("rexnet.training.distillation.load_timm", lambda name: (trained.model, own))
    section, student = config.distillation or DistillationConfig(teacher="run"), rexnet(0.2, depth_mult=0.1)
    return load_distillation(section, student, student, wanted, config.data, resolve_device(config.trainer))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"temperature": 1.0}, 0.549306),  # (3/4 - 1/4) ln 3
        ({"temperature": 2.0}, 0.588745),  # 4 (0.633975 - 0.366025) ln sqrt(3)
        ({"kind": "hard"}, 1.386294),  # ln 4
    ],
)
def test_losses_are_those_computed_by_hand(values: dict[str, Any], expected: float) -> None:
    config = DistillationConfig(teacher="run", **values)
    assert float(imitation_loss(STUDENT, TAUGHT, config)) == pytest.approx(expected, abs=2e-6)
    both = imitation_loss(torch.cat([STUDENT, TAUGHT]), TAUGHT.repeat(2, 1), config)  # the second agrees
    rest = 0.287682 if config.kind == "hard" else 0.0  # ln 4/3
    assert float(both) == pytest.approx((expected + rest) / 2, abs=2e-6)


def test_the_total_is_the_weighted_sum_of_its_parts() -> None:
    config, teacher = DistillationConfig(teacher="run", temperature=1.0, weight=0.25), nn.Identity()
    distillation = Distillation(config, teacher, "")  # type: ignore[arg-type]
    total, parts = distillation.combine(torch.tensor(2.0), STUDENT, TAUGHT)
    assert float(total) == pytest.approx(1.637327, abs=2e-6)  # 1.5 + 0.25 * 0.549306
    assert {name: float(part) for name, part in parts.items()} == pytest.approx(
        {"label_loss": 1.5, "teacher_loss": 0.137327}, abs=2e-6
    )


def test_distances_of_features_are_those_computed_by_hand() -> None:
    features, taught = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [0.0, 2.0]])
    assert float(feature_distance(features, taught)) == pytest.approx(0.52)  # 1 - (24/25 + 0) / 2
    wider = torch.tensor([[3.0, 5.0, 2.0, 4.0], [0.0, 0.0, 1.0, 3.0]])  # averaged to those of the teacher
    assert float(feature_distance(wider, taught)) == pytest.approx(0.0)
    assert float(feature_distance(taught, wider)) == pytest.approx(0.0)


def test_the_teacher_sees_its_own_normalization_and_answers_in_the_order_of_the_student(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    distillation = load_stand_in(monkeypatch, small_config, ("Cow", "ant", "bee", "dog"))
    teacher, start = distillation.teacher, "Teacher run: 0.00 M parameters; 0 G multiply-adds an image at 32 px add 0% "
    assert distillation.cost.startswith(start)
    pixels = torch.tensor([255, 0, 51], dtype=torch.uint8).expand(2, 32, 32, 3)
    images = normalize(pixels, small_config.data.mean, small_config.data.std)
    given = images.clone()
    logits = teacher(images)
    assert torch.allclose(logits, torch.tensor([-1.0, -0.6, 1.0]).expand(2, 3), atol=1e-5)
    assert not logits.requires_grad
    assert torch.equal(images, given)  # the student sees them next


def test_the_teacher_may_see_larger_images(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(small_run, "run", "distillation.image_size=48")
    teacher = load_stand_in(monkeypatch, config, NAMES).teacher
    sizes = []
    teacher.network.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(inputs[0].shape)))
    teacher(torch.rand(2, 3, 32, 32))
    assert sizes == [(2, 3, 48, 48)]


def test_a_size_that_the_teacher_does_not_take_is_one_sentence(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = r"^distillation\.image_size: run does not take images of 20 px \(.*20 px are too few.*\); set it to 32$"
    with pytest.raises(ConfigError, match=expected):
        load_stand_in(monkeypatch, configured(small_run, "run", "distillation.image_size=20"), NAMES)


def test_imagenets_classes_are_known_by_number_and_by_name(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(small_run, "timm/some=file")
    thousand = tuple(map(str, range(1000)))
    wanted = ("Carassius auratus", "n01440764", "goldfinch")  # a synonym of goldfish; tench
    assert load_stand_in(monkeypatch, config, thousand, wanted).teacher.rows.tolist() == [1, 0, 11]
    with pytest.raises(ConfigError, match=r"^distillation\.teacher: timm/some=file knows 2 of the 3 .* lacks cow;"):
        load_stand_in(monkeypatch, config, thousand)


@pytest.mark.parametrize("names", [("ant", "Bee", "bee!", "dog"), ("dog", "ant", "Ant")], ids=str)
def test_a_teacher_without_one_of_the_classes_is_one_sentence(
    names: tuple[str, ...], small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = r"knows 1 of the 3 classes by name and lacks bee, cow; fine-tune it on these images first, or set"
    with pytest.raises(ConfigError, match=expected):
        load_stand_in(monkeypatch, small_config, names)


def test_two_classes_are_not_taught_by_one(small_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"knows 1 of the 3 classes by name and lacks cow, Cow;"):
        load_stand_in(monkeypatch, small_config, ("COW", "ant", "bee"), ("ant", "cow", "Cow"))


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["distillation.kind=hard", "distillation.temperature=3"], "distillation: temperature is for kind=soft only"),
        (["distillation.weight=0"], "weight and feature_weight are 0, so the teacher would teach nothing; set one of"),
        (["distillation.weight=-1"], r"distillation\.weight: input should be greater than or equal to 0, found -1"),
        (
            ["distillation.teacher=pretrained", "distillation.weight=0.5"],
            r"teacher=pretrained has features, but no answers for these classes; leave out weight \(0\.5\)",
        ),
        (
            ["distillation.teacher=pretrained"],
            r"distillation\.teacher=pretrained needs model\.pretrained; without, set distillation=null",
        ),
        (["distillation.temperature=0"], r"distillation\.temperature: input should be greater than 0, found 0"),
        (["distillation.image_size=8"], r"distillation\.image_size: input should be greater than or equal to 16"),
        (["distillation.kind=firm"], r"distillation\.kind: input should be 'soft' or 'hard', found 'firm'"),
    ],
)
def test_bad_values_are_one_sentence(overrides: list[str], problem: str, small_run: list[str]) -> None:
    with pytest.raises(ConfigError, match=problem):
        configured(small_run, "run", *overrides)


def test_a_missing_teacher_is_one_sentence_before_there_is_a_run_folder(small_run: list[str], tmp_path: Path) -> None:
    config = configured(small_run, tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"^distillation\.teacher: .*gone: no such run folder or checkpoint$"):
        train(config)
    assert not config.trainer.runs_dir.exists()


def test_the_teacher_is_no_part_of_the_module(small_run: list[str], trained_run: Path) -> None:
    plain = build_classifier(load_config("finetune/folder.yaml", small_run), NAMES, (8, 8, 8), 3)
    module = build_classifier(configured(small_run, trained_run, "distillation.feature_weight=2"), NAMES, (8, 8, 8), 3)
    assert_same_tensors(plain.state_dict(), module.state_dict())  # initial weights do not depend on it either
    assert [name for name, _ in module.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert module.distillation is not None
    module.train()
    teacher = module.distillation.teacher
    assert not any(part.training for part in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    trial = copy.deepcopy(module).eval()  # as `settle_accumulation` does
    images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    total, parts = trial.compute_loss(images, labels)
    total.backward()
    values = {name: part.item() for name, part in parts.items()}
    assert list(values) == ["label_loss", "teacher_loss", "feature_loss"]
    assert total.item() == pytest.approx(sum(values.values()))
    networks = trial.model, teacher.network
    assert all(isinstance(network, ReXNet) for network in networks)
    pooled = [network.forward_head(network.forward_features(images), pre_logits=True) for network in networks]
    assert values["feature_loss"] == pytest.approx(2 * feature_distance(*pooled).item(), rel=1e-5)
    assert trial.model.stem.conv.weight.grad is not None


def test_the_teacher_is_the_evaluated_network(small_run: list[str], trained_run: Path) -> None:
    config = configured(small_run, trained_run, "trainer.pad_channels=8")
    trained = load_trained(trained_run)
    module = build_classifier(config, NAMES, (8, 8, 8), 3)
    assert module.distillation is not None
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(module.distillation.teacher(images), trained.model(images), atol=1e-5)
    assert module.config.distillation.teacher_sha256 == sha256_of_weights(trained.model)


@pytest.fixture
def teacher(trained_run: Path, tmp_path: Path) -> Path:
    """A teacher that a test may change."""
    return Path(shutil.copytree(trained_run, tmp_path / "teacher"))


def test_a_resumed_run_ends_where_the_uninterrupted_one_does(small_run: list[str], teacher: Path) -> None:
    settings = ["trainer.accumulate=2", "augmentation.mixup=0.2", "model.drop_path=0.2", "distillation.image_size=40"]
    settings += ["distillation.feature_weight=2"]
    whole = train(configured(small_run, teacher, *settings))
    stopped = train(configured(small_run, teacher, *settings, "trainer.max_steps=2"))
    moved = Path(shutil.move(teacher, teacher.with_name("moved")))
    resumed = train(configured(small_run, moved, *settings), stopped.run)
    one, other = final_state(whole.run), final_state(resumed.run)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "loss_window"):
        assert_same_tensors(one[key], other[key])
    shutil.rmtree(moved)
    load_trained(resumed.run)  # evaluation does not need it


def test_a_run_resumes_with_its_own_teacher_only(small_run: list[str], teacher: Path) -> None:
    config = configured(small_run, teacher, "trainer.max_steps=1")
    run = train(config).run
    own = load_run_config(run, [*small_run, f"distillation.teacher={teacher}"], config="finetune/folder.yaml")
    assert isinstance(own, Config)
    assert own.distillation == config.distillation  # null means the one that the run has written down
    other = train(load_config("finetune/folder.yaml", [*small_run, "seed=1", "trainer.max_steps=1"])).run
    shutil.rmtree(teacher)
    shutil.copytree(other, teacher)
    longer = load_run_config(run, ["trainer.max_steps=2"])
    assert isinstance(longer, Config)
    with pytest.raises(ConfigError, match=r"teacher_sha256 goes from \w{64} to \w{64}; to allow it"):
        train(longer, run)
    assert train(longer, run, allowed=["distillation"]).step == 2
    with pytest.raises(ConfigError, match=r"^distillation\.teacher: the weights of .* have the sha256 \w{64}, not 0"):
        train(configured(small_run, teacher, f"distillation.teacher_sha256={'0' * 64}"))
    shutil.rmtree(teacher)
    with pytest.raises(ConfigError, match=r"^distillation\.teacher: .*teacher: no such run folder or checkpoint$"):
        train(longer, run)


def test_features_are_taught_by_a_teacher_of_other_classes(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = DistillationConfig(teacher="run", weight=0, feature_weight=2)
    config = small_config.model_copy(update={"distillation": section})
    distillation = load_stand_in(monkeypatch, config, ("dog", "eel", "fox", "gnu"))
    distillation.taps = tuple(SimpleNamespace(features=torch.tensor(rows)) for rows in ([[3.0, 4.0]], [[4.0, 3.0]]))  # type: ignore[assignment]
    total, parts = distillation.combine(torch.tensor(2.0), STUDENT, torch.zeros(1, 0))
    assert float(total) == pytest.approx(2.08)  # 2 (1 - 24/25)
    assert list(parts) == ["label_loss", "feature_loss"]


def test_a_network_keeps_the_features_of_its_pretrained_weights(small_run: list[str], trained_run: Path) -> None:
    [file] = (trained_run / "checkpoints").glob("last.ckpt")
    settings = [f"model.pretrained={file}", "seed=3"]
    config = configured(small_run, "pretrained", *settings)
    module = build_classifier(config, NAMES, (8, 8, 8), 3)
    assert module.distillation is not None
    fresh, teacher = module.model.state_dict(), module.distillation.teacher
    plain = build_classifier(
        load_config("finetune/folder.yaml", [*small_run, *settings[:1], "seed=3"]), NAMES, (8,) * 3, 3
    )
    assert_same_tensors(plain.model.state_dict(), fresh)  # the teacher takes no random numbers from it
    found = module.config.distillation.teacher_sha256
    pinned = configured(small_run, "pretrained", *settings, "seed=4", f"distillation.teacher_sha256={found}")
    build_classifier(pinned, ("dog", "eel", "fox"), (8, 8, 8), 3)  # whatever the classifier begins with
    module.eval()
    images = torch.rand(4, 3, 32, 32)
    assert module.compute_loss(images, torch.tensor([0, 1, 2, 0]))[1]["feature_loss"].item() == pytest.approx(
        0, abs=1e-5
    )
    assert teacher(images).shape == (4, 0)
    whole = train(config)
    stopped = train(configured(small_run, "pretrained", *settings, "trainer.max_steps=2"))
    resumed = train(config, stopped.run)
    assert_same_tensors(final_state(whole.run)["state_dict"], final_state(resumed.run)["state_dict"])


def test_all_methods_together_resume_to_the_same_bits(
    small_run: list[str], trained_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = [f"model.pretrained={trained_run}/checkpoints/last.ckpt", "data.image_size=64", "data.batch_size=auto"]
    settings += ["distillation.weight=0", "distillation.feature_weight=5", "optimizer.sam_rho=0.05"]
    settings += ["optimizer.layer_decay=0.8", "optimizer.freeze_backbone_epochs=1", "optimizer.unfreeze_epochs=1"]
    settings += [
        "augmentation.image_size={start: 32, end: 64}",
        "ema={decay: null, last_epochs: 2}",
        "schedule.epochs=3",
    ]
    config = configured(small_run, "pretrained", *settings)
    with caplog.at_level(logging.INFO):
        whole = train(config)
    assert caplog.text.count("Teacher pretrained: 0.11 M parameters") == 1
    stopped = train(configured(small_run, "pretrained", *settings, "trainer.max_steps=4"))
    one, other = final_state(whole.run), final_state(train(config, stopped.run).run)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "loss_window"):
        assert_same_tensors(one[key], other[key])
