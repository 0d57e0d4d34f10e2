"""`rexnet models`."""

import argparse

from rexnet.cli.arguments import Commands, positive


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "models",
        help="list the networks of the ReXNet family",
        description="List the ReXNet family with computed cost, published ImageNet-1k accuracy and published weights.",
        epilog="example: rexnet models rexnet_100 rexnet_lite_100 --image-size 192",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks (default: all)")
    parser.add_argument("--image-size", type=positive, default=224, metavar="PIXELS", help="default: 224")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the table."""
    import torch

    from rexnet.errors import ConfigError
    from rexnet.models import rexnet
    from rexnet.models.cost import count_cost
    from rexnet.models.family import FAMILY

    known = {published.name: published for published in FAMILY}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        raise ConfigError(f"no network {unknown[0]!r} in the family; known: {', '.join(known)}")
    print(f"At {options.image_size} px; MACs and activations of convolutions and linear layers; accuracy as published")
    print(f"{'name':16} {'params M':>8} {'MACs G':>7} {'activ. M':>8} {'top-1':>6} {'top-5':>6}  weights")
    for name in options.names or known:
        published = known[name]
        with torch.device("meta"):
            network = rexnet(published.width_mult, published.variant, channel_divisor=published.channel_divisor)
        cost = count_cost(network, options.image_size)
        print(
            f"{name:16} {cost.params / 1e6:8.3f} {cost.macs / 1e9:7.3f} {cost.activations / 1e6:8.2f} "
            f"{published.top1 or '-':>6} {published.top5 or '-':>6}  {published.weights or '-'}"
        )
    return 0
