"""Where and with what a run was begun."""

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "timm", "albumentations", "numpy")


def describe_environment() -> dict[str, Any]:
    """Versions, hardware, command and git state: what one needs to repeat a run."""
    import torch

    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "cpu": {"cores": os.cpu_count(), "torch_threads": torch.get_num_threads()},
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "git": {
            "commit": _git("rev-parse", "HEAD"),
            "changed_files": (_git("status", "--porcelain") or "").splitlines(),
        },
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _git(*arguments: str) -> str | None:
    """Output of a git command in this checkout, or None outside of one."""
    checkout = Path(__file__).parents[3]
    if not (checkout / ".git").exists():  # installed; a repository around the environment would be another one
        return None
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            cwd=checkout,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
