from pathlib import Path

import pytest

from rexnet.config import load_config
from rexnet.config.portable import make_portable


def test_no_path_of_this_machine_remains() -> None:
    overrides = ["data.root=/home/me/images", "data.manifest=/home/me/m.csv", "data.cache_folder=/home/me/cache"]
    overrides += ["model.pretrained=/home/me/w.pth", "trainer.runs_dir=/home/me/runs", "data.download=true"]
    portable = make_portable(load_config("finetune/folder", overrides))
    assert "/home/me" not in portable.model_dump_json()
    assert (portable.data.root, portable.model.pretrained) == (Path("path/to/images"), "w.pth")
    assert (portable.data.download, portable.trainer.runs_dir) == (False, Path("runs"))


@pytest.mark.parametrize(
    ("teacher", "published"),
    [
        ("/home/me/runs/a=b", "a=b"),
        ("timm/rexnet_100.nav_in1k", "timm/rexnet_100.nav_in1k"),
        ("timm/rexnet_100=/home/me/w.pth", "timm/rexnet_100=w.pth"),
    ],
)
def test_a_teacher_keeps_its_name(teacher: str, published: str) -> None:
    portable = make_portable(load_config("finetune/folder", ["data.root=/a", f"distillation.teacher={teacher}"]))
    assert portable.distillation is not None
    assert portable.distillation.teacher == published


def test_addresses_and_generated_data_stay() -> None:
    address = f"https://example.org/w.pth#sha256={'0' * 64}"
    portable = make_portable(load_config("quickstart", [f"model.pretrained={address}", "data.root=/a"]))
    assert portable.model.pretrained == address
    assert portable.data.root == Path("data/digits")
