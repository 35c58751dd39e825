"""The flags of `modelport keys`, and what runs with them."""

import argparse

from gateway.cli.flags import command


def add_flags(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    new = command(verbs, "new", "print a new API key, and the lines to add to the file of identities")
    new.add_argument("name", help="the name of the client")
    command(verbs, "hash", "read an API key from standard input, and print its digest")


def run(options: argparse.Namespace) -> int:
    from gateway.commands.keys import print_digest, print_new_key

    return print_new_key(options.name) if options.verb == "new" else print_digest()
