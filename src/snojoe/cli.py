"""The ``snojoe`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from snojoe.architectures import TRUNKS, layer_names
from snojoe.errors import SnojoeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="snojoe",
        description="Multi-label out-of-distribution detection with spectral normalised joint "
        "energy.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    layers = commands.add_parser(
        "layers",
        help="what sn_layers counts",
        description="Print index, name and number of normalised weights of each counted layer.",
    )
    layers.add_argument("arch", nargs="?", default="resnet101", choices=list(TRUNKS))
    layers.set_defaults(call=lambda options: print_layers(options.arch))
    data_check = commands.add_parser(
        "data-check",
        help="which archives are there, which are missing and where they come from",
        description="Print the state of every archive that a parameter file names. The exit "
        "status is 1 where one is missing that you have to bring.",
    )
    data_check.add_argument("params", nargs="?", default="params.yaml")
    data_check.set_defaults(call=lambda options: print_inventory(options.params))
    options = parser.parse_args(arguments)
    try:
        return options.call(options) or 0
    except SnojoeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def print_layers(arch: str) -> None:
    """Print the counted layers of an architecture."""
    from snojoe.models import build_classifier
    from snojoe.spectral_norm import normalized_weights

    model = build_classifier(arch, num_classes=20)
    names = layer_names(arch)
    counts = [len(normalized_weights(model, depth)) for depth in range(len(names) + 1)]
    width = max(len(name) for name in names)
    print(f"{'sn_layers':>9}  {'layer':<{width}}  weights in it  normalised")
    print(f"{0:>9}  {'(none)':<{width}}  {'':>13}  {0:>10}")
    for depth, name in enumerate(names, start=1):
        inside = counts[depth] - counts[depth - 1]
        print(f"{depth:>9}  {name:<{width}}  {inside:>13}  {counts[depth]:>10}")


def print_inventory(path: str) -> int:
    """Print the state of every archive; returns 1 where the user has to bring one."""
    from snojoe.data.inventory import inventory
    from snojoe.params import load_params

    text, complete = inventory(load_params(path), Path("data/raw"), Path(".checkpoints/downloads"))
    print(text)
    return 0 if complete else 1
