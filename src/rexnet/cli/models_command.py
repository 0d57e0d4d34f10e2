"""`rexnet models`."""

import argparse

from rexnet.cli.arguments import Commands, positive


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "models",
        help="list the networks of the ReXNet family, and redesigns of other networks",
        description="List the ReXNet family with computed cost, published ImageNet-1k accuracy and published weights; "
        "then the redesigns of other networks, each after the baseline of timm that it redesigns.",
        epilog="example: rexnet models rexnet_100 rexnet_lite_100 --image-size 192",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks (default: all)")
    parser.add_argument("--image-size", type=positive, default=224, metavar="PIXELS", help="default: 224")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the table."""
    import torch

    from rexnet.config.schema import ModelConfig
    from rexnet.errors import ConfigError
    from rexnet.models import rexnet
    from rexnet.models.cost import count_cost
    from rexnet.models.factory import build_model
    from rexnet.models.family import FAMILY
    from rexnet.models.redesigns import REDESIGNS

    family = {published.name: published for published in FAMILY}
    known = [*family, *(name for key, design in REDESIGNS.items() for name in (design.baseline, key))]
    unknown = [name for name in options.names if name not in known]
    if unknown:
        raise ConfigError(f"no network {unknown[0]!r} in the list; known: {', '.join(known)}")
    print(f"At {options.image_size} px; MACs and activations of convolutions and linear layers; accuracy as published")
    print(f"{'name':20} {'params M':>8} {'MACs G':>7} {'activ. M':>8} {'top-1':>6} {'top-5':>6}  weights")
    network: torch.nn.Module
    classes = tuple(map(str, range(1000)))
    for name in options.names or known:
        published = family.get(name)
        top1, top5, weights = (published.top1, published.top5, published.weights) if published else (None, None, "")
        with torch.device("meta"):
            if published:
                network = rexnet(published.width_mult, published.variant, channel_divisor=published.channel_divisor)
            else:
                network = build_model(ModelConfig(name=name, dropout=0.0, drop_path=0.0), classes)
        cost = count_cost(network, options.image_size)
        print(
            f"{name:20} {cost.params / 1e6:8.3f} {cost.macs / 1e9:7.3f} {cost.activations / 1e6:8.2f} "
            f"{top1 or '-':>6} {top5 or '-':>6}  {weights or '-'}"
        )
    return 0
