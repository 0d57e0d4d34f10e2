from rexnet.config import load_config
from rexnet.preprocessing import Preprocessing, resolve_preprocessing


def test_a_config_and_class_names_give_the_preprocessing() -> None:
    config = load_config("rexnet_1.0x", ["data.image_size=192", "data.mean=[0.5, 0.5, 0.5]"])
    assert resolve_preprocessing(config, ["ant", "bee"]) == Preprocessing(
        image_size=192,
        crop_pct=0.875,
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.229, 0.224, 0.225),
        class_names=("ant", "bee"),
    )
