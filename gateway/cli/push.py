"""The flags of `modelport push`, and what runs with them."""

import argparse
from pathlib import Path

from gateway.commands.connection import add_flags as add_connection_flags
from gateway.commands.connection import from_flags


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="the model's name at the gateway")
    parser.add_argument("path", type=Path, help="an artifact, a folder with one, or a model's folder")
    add_connection_flags(parser)
    parser.add_argument("--version", default="1", help="the version of an artifact; default: 1")
    parser.add_argument(
        "--config", type=Path, default=None, metavar="FILE",
        help="a config.pbtxt, or the same in JSON; default: the config.pbtxt of a model's folder",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    from gateway.commands.push import push

    return push(from_flags(options), options.model, options.path, options.version, options.config)
