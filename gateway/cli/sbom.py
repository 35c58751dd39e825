"""The flags of `modelport sbom`, and what runs with them."""

import argparse
from pathlib import Path


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=None, metavar="FILE", help="default: standard output")


def run(options: argparse.Namespace) -> int:
    from gateway.commands.sbom import gateway_sbom

    return gateway_sbom(options.output)
