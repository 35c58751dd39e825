"""The flags of `modelport compare`, and what runs with them."""

import argparse
from pathlib import Path

from gateway.cli.flags import ALLOW_LOSS_HELP, shape, shape_flag, tolerance_flag
from gateway.commands.connection import add_flags as add_connection_flags
from gateway.commands.connection import from_flags


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--allow-loss", action="store_true", help=ALLOW_LOSS_HELP)
    parser.add_argument("first", help="MODEL or MODEL/VERSION")
    parser.add_argument("second", help="another MODEL or MODEL/VERSION with the same inputs and outputs")
    add_connection_flags(parser)
    parser.add_argument("--data", type=Path, default=None, metavar="NPZ", help="inputs; default: generated ones")
    tolerance_flag(parser)
    shape_flag(parser)


def run(options: argparse.Namespace) -> int:
    from gateway.commands.compare import Comparison, compare
    from gateway.export.comparison import TOLERANCES

    shapes = dict(shape(text) for text in options.shape)
    tolerance = TOLERANCES["float32"] if options.tolerance is None else options.tolerance
    comparison = Comparison(
        options.first, options.second, from_flags(options), options.data, tolerance, shapes, options.allow_loss
    )
    return compare(comparison)
