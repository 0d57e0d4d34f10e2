import pytest

from rexnet.config import Config, load_config
from rexnet.errors import ConfigError
from rexnet.models.factory import adopt_preprocessing, build_model


def recipe(*overrides: str) -> Config:
    return load_config("imagenet", overrides)


def test_a_network_of_timm_brings_its_own_preprocessing() -> None:
    config = adopt_preprocessing(recipe("model.name=timm/mobilenetv1_100"))
    assert config.data.mean == (0.5, 0.5, 0.5)
    assert config.data.std == (0.5, 0.5, 0.5)
    assert config.eval_transform.crop_pct == 0.875
    assert adopt_preprocessing(config) == config
    bilinear = adopt_preprocessing(recipe("model.name=timm/vgg11", "eval_transform.interpolation=bicubic"))
    assert bilinear.eval_transform.interpolation == "bilinear"


def test_what_a_networks_preprocessing_replaces_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    adopt_preprocessing(recipe("model.name=timm/resnet50", "eval_transform.crop_pct=1.0"))
    assert caplog.messages == [
        "timm/resnet50 has its own preprocessing (model.own_preprocessing=false keeps yours): "
        "eval_transform.crop_pct=0.95 instead of 1.0"
    ]


def test_the_builder_goes_before_the_module_of_its_name() -> None:
    from rexnet import rexnet as at_the_top
    from rexnet.models import rexnet
    from rexnet.models.rexnet import ReXNet

    assert rexnet is at_the_top
    assert isinstance(rexnet(0.2, num_classes=2), ReXNet)


def test_the_preprocessing_is_that_of_the_weights_asked_for() -> None:
    config = adopt_preprocessing(recipe("model.name=timm/resnet50", "model.pretrained=tv_in1k"))
    assert (config.eval_transform.interpolation, config.eval_transform.crop_pct) == ("bilinear", 0.875)
    default = adopt_preprocessing(recipe("model.name=timm/resnet50"))
    assert (default.eval_transform.interpolation, default.eval_transform.crop_pct) == ("bicubic", 0.95)
    assert adopt_preprocessing(recipe("model.name=timm/resnet50", "model.pretrained=no_such")) == default.model_copy(
        update={"model": default.model.model_copy(update={"pretrained": "no_such"})}
    )


def test_what_was_said_otherwise_is_never_overruled_in_silence() -> None:
    mean = "data.mean=[0.1,0.2,0.3]"
    with pytest.raises(ConfigError, match=r"data\.mean: is set to \(0\.1, .*model\.own_preprocessing=false"):
        adopt_preprocessing(recipe("model.name=timm/mobilenetv1_100", mean))
    kept = recipe("model.name=timm/mobilenetv1_100", mean, "model.own_preprocessing=false")
    assert adopt_preprocessing(kept) is kept
    rexnet = recipe(mean)
    assert adopt_preprocessing(rexnet) is rexnet


@pytest.mark.parametrize(
    "name", ["mobilenetv2_100", "mobilenetv1_100", "efficientnet_b0", "regnetx_004", "regnety_004", "resnet50"]
)
def test_the_baselines_are_built_by_name(name: str) -> None:
    import torch

    config = adopt_preprocessing(recipe(f"model.name=timm/{name}"))
    with torch.device("meta"):
        model = build_model(config.model, ["ant", "bee"])
    assert model.get_classifier().out_features == 2  # type: ignore[operator]


def test_the_shape_of_rexnet_is_not_for_networks_of_timm() -> None:
    with pytest.raises(ConfigError, match="variant is for rexnet only, not for timm/resnet18"):
        recipe("model.name=timm/resnet18", "model.variant=lite")


def test_a_misspelled_name_of_timm_is_one_sentence_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"model.name: timm .* has no network 'resnet5'; nearest: timm/resnet\d+"):
        adopt_preprocessing(recipe("model.name=timm/resnet5"))


def test_a_network_of_one_input_size_takes_no_other() -> None:
    message = r"model\.name: timm/vit_tiny_patch16_224 takes images of 224 px only; set data\.image_size=224 and augm"
    for key in ("data.image_size=192", "augmentation.image_size=160", "augmentation.image_size={start: 128, end: 224}"):
        with pytest.raises(ConfigError, match=message):
            adopt_preprocessing(recipe("model.name=timm/vit_tiny_patch16_224", "model.own_preprocessing=false", key))
    adopt_preprocessing(recipe("model.name=timm/vit_tiny_patch16_224", "augmentation.image_size=224"))
