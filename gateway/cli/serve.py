"""The flags of `modelport serve`, and what runs with them."""

import argparse
import os
from pathlib import Path

from gateway.cli.flags import check_runtimes, python_flag, with_pythons


def add_flags(parser: argparse.ArgumentParser) -> None:
    from gateway.config import Settings

    parser.add_argument(
        "repository", nargs="*",
        help="folders, artifacts and URLs, such as s3://bucket/models; default: what the platform has put into this "
        "container, or else model_repo",
    )  # fmt: skip
    parser.add_argument("--only", default="", metavar="NAMES", help="runtimes to build and use, such as onnx,mxnet")
    python_flag(parser)
    for name, field in Settings.model_fields.items():
        flag = "--" + name.replace("_", "-")
        if field.annotation is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=field.description)
        elif name != "runtimes":
            default = f" (default {field.default})" if field.default not in ("", ()) else ""
            parser.add_argument(flag, default=None, metavar="X", help=f"{field.description}{default}")

    # As KServe's own servers spell them.
    parser.add_argument("--model_name", dest="model_name", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--model_dir", default=None, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--http_port", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--grpc_port", default=None, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    from gateway.config import Settings, SettingsError, Sources, read_settings

    flags = {name: getattr(options, name) for name in Settings.model_fields if name != "runtimes"}
    for name, port in (("http", options.http_port), ("grpc", options.grpc_port)):
        if port is not None and flags[name] is None:
            flags[name] = f"0.0.0.0:{port}"
    settings = read_settings(Sources(flags))
    named = options.repository or ([str(options.model_dir)] if options.model_dir else settings.repositories)
    if named and settings.models_config:
        # Not their names, which may be URLs with signatures.
        raise SettingsError(f"give repositories or models_config ('{settings.models_config}'), not both")
    places, reason = [settings.models_config] if settings.models_config else named, ""
    if not places:
        from gateway.commands.platform import find_models

        found = find_models(os.environ)
        settings = read_settings(Sources(flags, conventions=found.conventions))
        places, reason = [str(_fetched(found.location or settings.sagemaker_models))], found.reason
    settings = with_pythons(settings, options.python)
    check_runtimes(settings)
    from gateway.commands.serve import serve

    only = frozenset(name.strip() for name in options.only.split(",") if name.strip())
    return serve(places, settings, only, reason)


def _fetched(location: str) -> Path:
    """Return the path of what a platform names by a path or a URL. Raises SettingsError."""
    from gateway.config import SettingsError

    if "://" not in location:
        return Path(location)
    from gateway.contents.errors import StoreError
    from gateway.remote.fetch import fetch  # imports what only remote models need
    from gateway.remote.location import BadLocation

    try:
        return fetch(location)
    except (BadLocation, StoreError) as error:
        raise SettingsError(str(error)) from None
