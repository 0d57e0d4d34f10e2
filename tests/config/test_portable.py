from pathlib import Path

from rexnet.config import load_config
from rexnet.config.portable import make_portable


def test_no_path_of_this_machine_remains() -> None:
    overrides = ["data.root=/home/me/images", "data.manifest=/home/me/m.csv", "data.cache_folder=/home/me/cache"]
    overrides += ["model.pretrained=/home/me/w.pth", "trainer.runs_dir=/home/me/runs", "data.download=true"]
    portable = make_portable(load_config("finetune/folder", overrides))
    assert "/home/me" not in portable.model_dump_json()
    assert (portable.data.root, portable.model.pretrained) == (Path("path/to/images"), "w.pth")
    assert (portable.data.download, portable.trainer.runs_dir) == (False, Path("runs"))


def test_addresses_and_generated_data_stay() -> None:
    address = f"https://example.org/w.pth#sha256={'0' * 64}"
    portable = make_portable(load_config("quickstart", [f"model.pretrained={address}", "data.root=/a"]))
    assert portable.model.pretrained == address
    assert portable.data.root == Path("data/digits")
