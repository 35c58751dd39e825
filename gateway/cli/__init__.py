"""The command `modelport`: a module for each subcommand, imported only when that one runs, so that --help is fast."""

import argparse
import importlib
import sys

from gateway import __version__
from gateway.cli.flags import command

# A subcommand is the module of its name, which has add_flags(parser) and run(options).
_COMMANDS = {
    "serve": "serve a model repository, or a single artifact",
    "predict": "send arrays, JSON or images to a running gateway",
    "models": "list the models of a running gateway",
    "push": "send a model's files to a running gateway that allows it",
    "traffic": "divide a model's requests among its versions, copy, promote, roll back",
    "health": "check that the gateway on this machine is live, or ready",
    "keys": "make an API key, or print the digest of one",
    "runtimes": "list runtimes, and build, remove, lock or describe their environments",
    "export": "convert a model to TFLite, ExecuTorch, TensorFlow.js or ONNX, and verify it",
    "profile": "measure a model by batch size and threads, and recommend its settings",
    "score": "run a model over the rows of files: Parquet, CSV, JSON lines, npz or images",
    "compare": "check whether two models of a running gateway compute the same",
    "sbom": "print the CycloneDX bill of materials of the gateway itself",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="modelport", description="One inference gateway for the models of every deep learning framework."
    )
    parser.add_argument("--version", action="version", version=f"modelport {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers = {name: command(commands, name, summary) for name, summary in _COMMANDS.items()}
    # Only the chosen command gets its flags, because the names of the settings need an import.
    chosen = next((word for word in argv if not word.startswith("-")), "")
    try:
        if chosen not in _COMMANDS:
            parser.parse_args(argv)  # prints help or what is wrong, and exits
        module = importlib.import_module(f"gateway.cli.{chosen}")
        module.add_flags(parsers[chosen])
        exit_code: int = module.run(parser.parse_args(argv))
        return exit_code
    except KeyboardInterrupt:  # while it starts; later, each command has its own way to stop
        print("modelport: stopped", file=sys.stderr)
        return 130
    except Exception as error:
        from gateway.config import SettingsError  # imported here, so that --help does not import it

        if not isinstance(error, SettingsError):
            raise
        print(f"modelport: {error}", file=sys.stderr)
        return 2
