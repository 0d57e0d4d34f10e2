import timm
import torch

import rexnet.models.timm_registry  # noqa: F401 - what it registers is tested
from rexnet import rexnet as build


def test_timm_builds_what_it_lacks_and_loads_our_files_into_it(tmp_path) -> None:  # type: ignore[no-untyped-def]
    lite = build(1.0, "lite", num_classes=7).eval()
    torch.save(lite.state_dict(), tmp_path / "lite.pth")
    theirs = timm.create_model("rexnet_lite_100", num_classes=7, checkpoint_path=str(tmp_path / "lite.pth")).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(theirs(images), lite(images))
    assert {"rexnet_090", "rexnet_220", "rexnet_lite_100", "rexnet_lite_130", "rexnet_lite_150", "rexnet_lite_200"} <= {
        *timm.list_models("rexnet*")
    }


def test_timms_options_work_on_them() -> None:
    features = timm.create_model("rexnet_090", features_only=True, in_chans=1).eval()
    assert [tuple(x.shape) for x in features(torch.randn(1, 1, 64, 64))] == [
        (1, 16, 32, 32),
        (1, 36, 16, 16),
        (1, 56, 8, 8),
        (1, 117, 4, 4),
        (1, 168, 2, 2),
    ]
    headless = timm.create_model("rexnet_lite_100", num_classes=0, drop_rate=0.1, drop_path_rate=0.2).eval()
    assert headless(torch.randn(2, 3, 64, 64)).shape == (2, 1024)
    assert headless.head.dropout.p == 0.1
    assert headless.features[15].drop_path == 0.2
    assert timm.data.resolve_data_config({}, model=headless)["interpolation"] == "bicubic"
