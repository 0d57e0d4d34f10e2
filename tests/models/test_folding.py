import pytest
import torch
from torch import nn

from rexnet import rexnet
from rexnet.models.folding import fold_batchnorm


def with_statistics(model: nn.Module) -> nn.Module:
    """Gives every BatchNorm statistics and weights other than those of a fresh network."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return model.eval()


@pytest.mark.parametrize("variant", ["v1", "lite", "r"])
def test_a_folded_copy_has_no_batchnorm_and_gives_the_same_logits(variant: str) -> None:
    model = with_statistics(rexnet(0.3, variant, num_classes=9))  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = fold_batchnorm(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(folded(images), model(images), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["mobilenetv2_050", "regnetx_002", "resnet18"])
def test_networks_of_timm_fold_too(name: str) -> None:
    import timm

    model = with_statistics(timm.create_model(name, num_classes=5))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = model(images), fold_batchnorm(model)(images)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
