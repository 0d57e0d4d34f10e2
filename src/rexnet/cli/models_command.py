"""`rexnet models`."""

import argparse

from rexnet.cli.arguments import Commands, positive


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "models",
        help="list the ReXNet family and redesigns of other networks",
        description="List the ReXNet family, and redesigns of other networks by its principles, with computed cost, "
        "published ImageNet-1k accuracy and published weights.",
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
    from rexnet.models.redesigns import REDESIGNS, build_redesign

    known = {published.name: published for published in FAMILY}
    unknown = [name for name in options.names if name not in (*known, *REDESIGNS)]
    if unknown:
        raise ConfigError(f"no network {unknown[0]!r} in the list; known: {', '.join((*known, *REDESIGNS))}")
    print(f"At {options.image_size} px; MACs and activations of convolutions and linear layers; accuracy as published")
    print(f"{'name':16} {'params M':>8} {'MACs G':>7} {'activ. M':>8} {'top-1':>6} {'top-5':>6}  weights")
    for name in options.names or (*known, *REDESIGNS):
        with torch.device("meta"):
            if (published := known.get(name)) is None:
                cost = count_cost(build_redesign(name, 1000), options.image_size)
                top1, top5, weights = None, None, f"- (redesign of {REDESIGNS[name].baseline})"
            else:
                network = rexnet(published.width_mult, published.variant, channel_divisor=published.channel_divisor)
                cost = count_cost(network, options.image_size)
                top1, top5, weights = published.top1, published.top5, published.weights
        print(
            f"{name:16} {cost.params / 1e6:8.3f} {cost.macs / 1e9:7.3f} {cost.activations / 1e6:8.2f} "
            f"{top1 or '-':>6} {top5 or '-':>6}  {weights or '-'}"
        )
    return 0
