from pathlib import Path

import pytest

from rexnet.config import dump_config, load_config, load_run_config
from rexnet.errors import ConfigError
from rexnet.models.factory import adopt_preprocessing


def test_an_unchanged_file_goes_on_with_a_network_that_brought_its_own_preprocessing(
    small_run: list[str], tmp_path: Path
) -> None:
    name = "model.name=timm/mobilenetv1_100"  # mean and std 0.5, other than those of the file
    overrides = [argument for argument in small_run if not argument.startswith("model.")]
    adopted = adopt_preprocessing(load_config("finetune/folder.yaml", [*overrides, name]))
    assert adopted.data.mean == (0.5, 0.5, 0.5)
    (tmp_path / "config.yaml").write_text(dump_config(adopted))
    load_run_config(tmp_path, [*overrides, name], config="finetune/folder.yaml")
    with pytest.raises(ConfigError, match=r"but optimizer\.lr goes from 0\.05 to 0\.1; if it should"):
        load_run_config(tmp_path, [*overrides, name, "optimizer.lr=0.1"], config="finetune/folder.yaml")
