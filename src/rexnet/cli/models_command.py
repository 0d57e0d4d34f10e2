"""`rexnet models`."""

import argparse

from rexnet.cli.arguments import Commands, positive


def add_parser(commands: Commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "models",
        help="list the family: cost, published accuracy, weights; and measure it here",
        description="List the networks of the family with parameters, multiply-adds and activations as computed from "
        "the code, the published accuracy on ImageNet-1k, and where the weights are.",
        epilog="example: models rexnet_100 rexnet_lite_100 --measure",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    parser.add_argument("--image-size", type=positive, default=224, metavar="PIXELS", help="default: 224")
    parser.add_argument(
        "--measure", action="store_true", help="images/s on this machine, beside timm's (a minute each)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the tables."""
    import difflib

    from rexnet.errors import ConfigError
    from rexnet.models.family import FAMILY, MISPRINTS, count_cost

    known = {published.name: published for published in FAMILY}
    for name in options.names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(f"no network {name!r} in the family" + (f"; nearest: {nearest[0]}" if nearest else ""))
    chosen = [known[name] for name in options.names] or list(FAMILY)
    print(
        f"At {options.image_size} px; MACs: multiply-adds of convolutions and linear layers, activations: their outputs"
    )
    print(f"{'name':16} {'params M':>8} {'MACs G':>7} {'activ. M':>8} {'top-1':>6} {'top-5':>6}  weights")
    for published in chosen:
        cost = count_cost(published, options.image_size)
        top1, top5 = (f"{value:.1f}" if value is not None else "-" for value in (published.top1, published.top5))
        print(
            f"{published.name:16} {cost.params / 1e6:8.3f} {cost.macs / 1e9:7.3f} {cost.activations / 1e6:8.2f} "
            f"{top1:>6} {top5:>6}  {published.weights or '-'}"
        )
    if options.measure:
        return _measure(chosen, options.image_size)
    if not options.names:
        print("\nPublished accuracy at 224 px on ImageNet-1k. Misprints in what was published:")
        print("\n".join(f"- {line}" for line in MISPRINTS))
    return 0


def _measure(chosen: list, image_size: int) -> int:  # type: ignore[type-arg]
    import functools

    import torch

    from rexnet.export.speed import BATCHES, measure_network
    from rexnet.models.factory import find_timm_peer, rexnet

    hardware = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"\nOn this machine ({hardware}), torch {torch.__version__}, best of three rounds, each form in a process:")
    heads = "".join(f" {f'ms x{batch}':>8} {f'img/s x{batch}':>10}" for batch in BATCHES)
    print(f"{'name':16} {'form':12}{heads}")
    for published in chosen:
        variant, width = published.variant, published.width_mult
        build = functools.partial(rexnet, width, variant, channel_divisor=published.channel_divisor)
        for form, speeds in measure_network(build, find_timm_peer(variant, width), image_size).items():
            rates = "".join(f" {1000 * batch / speeds[batch]:8.1f} {speeds[batch]:10.1f}" for batch in BATCHES)
            print(f"{published.name:16} {form:12}{rates}", flush=True)
    return 0
