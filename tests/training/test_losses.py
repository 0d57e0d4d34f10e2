import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the common name

from rexnet.config import load_config
from rexnet.config.schema import LossConfig
from rexnet.errors import ConfigError
from rexnet.training.classification import build_classifier, train
from rexnet.training.losses import build_loss

LOGITS = torch.tensor([[0.0, math.log(3.0)]])  # softmax: 1/4 and 3/4; sigmoid: 1/2 and 3/4
LABEL, SOFT = torch.tensor([1]), torch.tensor([[0.5, 0.5]])
TWO_LOGITS, TWO_LABELS = LOGITS.repeat(2, 1), torch.tensor([0, 1])


def configured(*overrides: str) -> LossConfig:
    return load_config("finetune/folder.yaml", ["data.root=/data", "loss.label_smoothing=0", *overrides]).loss


@pytest.mark.parametrize(
    ("overrides", "logits", "targets", "expected"),
    [
        ([], LOGITS, LABEL, 0.287682),  # ln 4/3
        ([], LOGITS, SOFT, 0.836988),  # half of ln 4/3 and half of ln 4
        (["loss.label_smoothing=0.2"], LOGITS, LABEL, 0.397543),  # 0.9 ln 4/3 + 0.1 ln 4
        (["loss.class_weights=[1,3]"], TWO_LOGITS, TWO_LABELS, 0.562335),  # (ln 4 + 3 ln 4/3) / 4
        (["loss.class_weights=[1,3]"], LOGITS, SOFT, 1.124670),  # 0.5 ln 4 + 1.5 ln 4/3
        (["loss.name=binary_cross_entropy"], LOGITS, LABEL, 0.490415),  # (ln 2 + ln 4/3) / 2
        (["loss.name=binary_cross_entropy"], LOGITS, SOFT, 0.765068),  # (ln 2 + (ln 4/3 + ln 4) / 2) / 2
        (["loss.name=binary_cross_entropy", "loss.label_smoothing=0.2"], LOGITS, LABEL, 0.545345),
        (["loss.name=binary_cross_entropy", "loss.class_weights=[1,3]"], LOGITS, LABEL, 0.778097),
    ],
)
def test_losses_are_those_computed_by_hand(
    overrides: list[str], logits: Tensor, targets: Tensor, expected: float
) -> None:
    loss = build_loss(configured(*overrides), [1, 1])(logits, targets)
    assert float(loss) == pytest.approx(expected, abs=2e-6)


def test_balanced_weights_are_inversely_proportional_to_the_counts_with_mean_1_over_images() -> None:
    weights = build_loss(configured("loss.class_weights=balanced"), [2, 6]).class_weights
    assert weights is not None
    assert weights.tolist() == pytest.approx([2.0, 2 / 3])
    assert (2 * weights[0] + 6 * weights[1]) / 8 == pytest.approx(1.0)


def test_cross_entropy_without_weights_is_pytorchs_to_the_last_bit() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(16, 5), torch.randint(5, (16,))
    for targets in (labels, torch.rand(16, 5).softmax(1)):
        mine = build_loss(configured("loss.label_smoothing=0.1"), [1] * 5)(logits, targets)
        assert torch.equal(mine, F.cross_entropy(logits, targets, label_smoothing=0.1))


def test_a_list_of_another_length_is_one_sentence(small_run: list[str]) -> None:
    config = load_config("finetune/folder.yaml", [*small_run, "loss.class_weights=[1,2]"])
    with pytest.raises(ConfigError, match=r"^loss\.class_weights: has 2 weights, but the data set has 3 classes$"):
        train(config)
    assert not config.trainer.runs_dir.exists()


def test_every_key_reaches_the_module(small_run: list[str]) -> None:
    keys = ["loss.name=binary_cross_entropy", "loss.label_smoothing=0.3", "loss.class_weights=[1,2,3]"]
    module = build_classifier(load_config("finetune/folder.yaml", [*small_run, *keys]), "abc", (8, 8, 8), 3)
    assert (type(module.loss).__name__, module.loss.label_smoothing) == ("BinaryCrossEntropy", 0.3)
    assert module.loss.class_weights.tolist() == [1.0, 2.0, 3.0]
    assert not [name for name in module.state_dict() if name.startswith("loss")]  # checkpoints stay as they are


@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy"])
def test_a_run_trains_with_weights_and_mixed_targets(name: str, small_run: list[str]) -> None:
    keys = [f"loss.name={name}", "loss.class_weights=balanced", "augmentation.mixup=0.5", "schedule.epochs=1"]
    assert train(load_config("finetune/folder.yaml", [*small_run, *keys])).step == 3
