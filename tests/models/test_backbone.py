import pytest
import torch
from torch import nn

from rexnet import rexnet
from rexnet.errors import ConfigError
from rexnet.models.backbone import Backbone


def test_the_five_maps_of_width_1_have_the_published_channels_and_strides() -> None:
    backbone = Backbone(rexnet(1.0)).eval()
    maps = backbone(torch.randn(1, 3, 64, 96))
    assert {name: tuple(x.shape) for name, x in maps.items()} == {
        "0": (1, 16, 32, 48),
        "1": (1, 38, 16, 24),
        "2": (1, 61, 8, 12),
        "3": (1, 128, 4, 6),
        "4": (1, 185, 2, 3),
    }
    assert backbone.channels == [16, 38, 61, 128, 185]
    assert backbone.strides == [2, 4, 8, 16, 32]


def test_the_maps_are_those_of_timms_features_only() -> None:
    import timm

    network = timm.create_model("rexnet_100")
    theirs, ours = timm.create_model("rexnet_100", features_only=True).eval(), rexnet(1.0)
    theirs.load_state_dict(
        {name.replace("features.", "features_"): v for name, v in network.state_dict().items()}, False
    )
    ours.load_state_dict(network.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for expected, found in zip(theirs(images), Backbone(ours.eval())(images).values(), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_gradient_checkpointing_reaches_the_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    from rexnet.models import grad_checkpointing as checkpointing

    calls = []
    monkeypatch.setattr(checkpointing, "checkpoint", lambda layer, x, **_: calls.append(layer) or layer(x))
    Backbone(rexnet(0.2, grad_checkpointing=True)).train()(torch.randn(2, 3, 32, 32))
    assert len(calls) == 16


def test_faster_rcnn_trains_a_step_on_it() -> None:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.ops import FeaturePyramidNetwork

    class Pyramid(nn.Sequential):
        out_channels = 32

    backbone = Backbone(rexnet(0.2), levels=(1, 2, 3, 4))
    anchors = AnchorGenerator(tuple((8 * 2**level,) for level in range(4)), ((0.5, 1.0, 2.0),) * 4)
    detector = FasterRCNN(
        Pyramid(backbone, FeaturePyramidNetwork(backbone.channels, 32)),
        num_classes=3,
        rpn_anchor_generator=anchors,
        min_size=64,
        max_size=64,
    ).train()
    images = [torch.rand(3, 64, 64), torch.rand(3, 64, 64)]
    box = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
    loss = sum(detector(images, [box, box]).values())
    loss.backward()
    assert loss.isfinite()
    assert backbone.stem.conv.weight.grad.abs().sum() > 0


def test_a_segmentation_head_reads_a_dilated_backbone() -> None:
    from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3

    backbone = Backbone(rexnet(0.2, output_stride=8), levels=(4,), names=("out",))
    network = DeepLabV3(backbone, DeepLabHead(backbone.channels[0], 5)).eval()
    assert backbone.strides == [8]
    assert network(torch.randn(1, 3, 64, 64))["out"].shape == (1, 5, 64, 64)


@pytest.mark.parametrize(
    ("levels", "names", "message"),
    [
        ((5,), None, r"levels: should be some of 0 to 4 in ascending order, not \[5\]"),
        ((), None, r"levels: should be some of 0 to 4 in ascending order, not \[\]"),
        ((4, 2), ("c5", "c3"), r"levels: should be some of 0 to 4 in ascending order, not \[4, 2\]"),
        ((1, 2), ("out",), "names: 1 are given for 2 levels"),
    ],
)
def test_levels_that_do_not_exist_are_one_sentence(levels: tuple[int], names: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Backbone(rexnet(0.2), levels, names)  # type: ignore[arg-type]
