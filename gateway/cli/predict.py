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
    parser.add_argument(
        "--sequence-id", default="", metavar="ID",
        help="the sequence of the request: a number or text; '\"42\"' is the text 42",
    )  # fmt: skip
    parser.add_argument("--sequence-start", action="store_true", help="this is its first request")
    parser.add_argument("--sequence-end", action="store_true", help="this is its last request")


def run(options: argparse.Namespace) -> int:
    from gateway.commands.predict import Question, predict

    if options.top < 0:
        print("modelport: --top must not be negative", file=sys.stderr)
        return 2
    sequence = options.sequence_id, options.sequence_start, options.sequence_end
    question = Question(
        options.model, options.inputs, from_flags(options), options.version, options.output, options.top, *sequence
    )
    return predict(question)
