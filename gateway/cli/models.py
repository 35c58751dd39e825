"""The flags of `modelport models`, and what runs with them."""

import argparse

from gateway.commands.connection import add_flags as add_connection_flags
from gateway.commands.connection import from_flags


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_connection_flags(parser)


def run(options: argparse.Namespace) -> int:
    from gateway.commands.models import print_models

    return print_models(from_flags(options))
