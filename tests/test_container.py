"""The image and its services: confined, and with volumes where a run writes."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from rexnet.cli import parse
from rexnet.config import load_config

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_writes_to_volumes_only(name: str) -> None:
    service = SERVICES[name]
    assert (service["user"], service["read_only"]) == ("${UID:-1000}:${GID:-1000}", True)
    assert (service["tmpfs"], service["cap_drop"]) == (["/tmp"], ["ALL"])
    volumes = json.loads(re.search(r"^VOLUME (.*)$", DOCKERFILE, re.MULTILINE)[1])
    assert {volume["target"] for volume in service["volumes"]} <= set(volumes)


def test_the_training_service_runs_a_recipe_that_exists() -> None:
    program, *arguments = SERVICES["train"]["command"]
    assert program == "train.py"
    options = parse(["train", *arguments])
    assert load_config(options.config, options.overrides).name == "quickstart"


def test_the_container_script_says_why_it_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    script = ROOT / "tests" / "container.sh"
    done = subprocess.run(
        [script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "skipped: tests/container.sh needs root, to mount file systems\n"
