"""The flags of `modelport runtimes`, and what runs with them."""

import argparse
from pathlib import Path

from gateway.cli.flags import command, require_locks_flag


def add_flags(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = command(verbs, "list", "show state, versions, size and Python of all runtimes")
    install = command(verbs, "install", "build a runtime's environment")
    install.add_argument("name", help="a runtime, such as onnx; modelport runtimes list shows all")
    install.add_argument("--python", type=Path, default=None, help="the interpreter to build from")
    remove = command(verbs, "remove", "delete the environments of a runtime, or of models with packages of their own")
    remove.add_argument("name", help="onnx, for example, or python-1f0c29ab; modelport runtimes list shows all")
    lock = command(verbs, "lock", "write lock files, from which environments are built with hashes")
    lock.add_argument("names", nargs="*", help="runtimes; default: all")
    lock.add_argument(
        "--python-version", action="append", default=[], metavar="X.Y",
        help="lock for this Python, may be repeated; default: the one that a build here would use",
    )  # fmt: skip
    lock.add_argument(
        "--platform", action="append", default=[],
        help="lock for this platform, such as linux-aarch64, may be repeated; default: this machine's",
    )  # fmt: skip
    lock.add_argument("--upgrade", action="store_true", help="lock the newest versions, whatever is locked or built")
    sbom = command(verbs, "sbom", "print the CycloneDX bill of materials of built environments")
    sbom.add_argument("name", nargs="?", default="", help="a runtime; default: all whose environment is built")
    sbom.add_argument("--output", type=Path, default=None, metavar="FILE", help="default: standard output")
    for each in (listing, install, lock, sbom):
        each.add_argument(
            "--accelerator",
            choices=("cpu", "cuda"),
            default=None,
            help="the packages of the environment; default: the setting accelerator",
        )
    for each in (listing, install):
        require_locks_flag(each)


def run(options: argparse.Namespace) -> int:
    from gateway.config import Sources, home, read_settings

    if options.verb == "remove":
        from gateway.commands.runtimes import remove

        return remove(options.name, home())
    settings = read_settings(
        Sources({"accelerator": options.accelerator, "require_locks": getattr(options, "require_locks", None)})
    )
    external = {name: each.python for name, each in settings.runtimes.items() if each.python}
    if options.verb == "lock":
        from gateway.commands.lock import LockRequest, lock

        pythons, platforms = tuple(options.python_version), tuple(options.platform)
        request = LockRequest(tuple(options.names), settings.accelerator, pythons, platforms, options.upgrade)
        return lock(request, home())
    if options.verb == "sbom":
        from gateway.commands.sbom import environments_sbom
        from gateway.environments.environment import Locator

        return environments_sbom(options.name, Locator(home(), settings.accelerator, external), options.output)
    from gateway.commands.runtimes import install, list_runtimes

    if options.verb == "install":
        return install(options.name, home(), settings.accelerator, options.python, settings.require_locks)
    return list_runtimes(home(), settings.accelerator, external, settings.require_locks)
