"""The flags of `modelport traffic`, and what runs with them."""

import argparse

from gateway.commands.connection import add_flags as add_connection_flags
from gateway.commands.connection import from_flags


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a model of the gateway")
    add_connection_flags(parser)
    parser.add_argument("--weights", default="", metavar="3=95,4=5", help="versions and weights; none removes them")
    parser.add_argument("--shadow", default="", metavar="VERSION", help="a version that gets copies; none ends that")
    parser.add_argument("--of", default="", metavar="VERSION", help="whose requests are copied; default: the main one")
    parser.add_argument("--share", type=float, default=None, metavar="X", help="how many of them (default: 1)")
    parser.add_argument("--promote", default="", metavar="VERSION", help="give it all requests without a version")
    parser.add_argument("--rollback", action="store_true", help="undo the newest change at run time")


def run(options: argparse.Namespace) -> int:
    from gateway.commands.traffic import Change, traffic

    change = Change(options.weights, options.shadow, options.of, options.share, options.promote, options.rollback)
    return traffic(from_flags(options), options.model, change)
