"""The flags of `modelport predict`, and what runs with them."""

import argparse
import sys

from gateway.commands.connection import add_flags as add_connection_flags
from gateway.commands.connection import from_flags


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a model of the gateway")
    parser.add_argument(
        "--input", action="append", required=True, metavar="[NAME=]VALUE", dest="inputs",
        help="JSON such as '[[1, 2]]', or @FILE: .npy, .json or an image; NAME= is for models with several inputs",
    )  # fmt: skip
    add_connection_flags(parser)
    parser.add_argument("--version", default="", help="a version of the model; default: the newest")
    parser.add_argument("--output", default="", metavar="NAME", help="show only this output, as numbers")
    parser.add_argument("--top", type=int, default=0, metavar="N", help="show the N highest scores")


def run(options: argparse.Namespace) -> int:
    from gateway.commands.predict import Question, predict

    if options.top < 0:
        print("modelport: --top must not be negative", file=sys.stderr)
        return 2
    question = Question(
        options.model, options.inputs, from_flags(options), options.version, options.output, options.top
    )
    return predict(question)
