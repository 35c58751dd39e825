"""The flags of `modelport health`, and what runs with them."""

import argparse
from pathlib import Path


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ready", action="store_true", help="check that it is ready; default: that it is live")
    parser.add_argument("--cert", type=Path, metavar="FILE", help="client certificate in PEM format, if it needs one")
    parser.add_argument("--key", type=Path, metavar="FILE", help="its private key; default: in the file of --cert")


def run(options: argparse.Namespace) -> int:
    from gateway.commands.health import health

    return health(options.ready, options.cert, options.key)
