"""The flags of `modelport export`, and what runs with them."""

import argparse
from pathlib import Path

from gateway.cli.flags import (
    ALLOW_LOSS_HELP,
    check_runtimes,
    python_flag,
    require_locks_flag,
    shape,
    shape_flag,
    tolerance_flag,
    with_pythons,
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    from gateway.export.routes import PRECISIONS, TARGETS

    parser.add_argument("model", nargs="?", default="", help="a model of the repository, or an artifact's path")
    parser.add_argument("--to", choices=TARGETS, default=None, help="the format to export to")
    parser.add_argument("--list", action="store_true", help="list the supported exports and the tools that they use")
    parser.add_argument("--repository", type=Path, default=Path("model_repo"), help="default: model_repo")
    parser.add_argument("--version", default="", help="a version of the model; default: the newest")
    parser.add_argument("--signature", default="", help="a signature of the model; default: its first")
    parser.add_argument("--out", type=Path, default=None, help="the folder to write; default: MODEL-TARGET")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")
    parser.add_argument(
        "--quantize", choices=PRECISIONS[1:], default="float32", help="make a smaller, less exact export"
    )
    parser.add_argument("--calibrate", type=Path, default=None, metavar="NPZ", help="representative inputs, for int8")
    parser.add_argument(
        "--allow-loss",
        action="store_true",
        help=f"{ALLOW_LOSS_HELP}; the export may be wrong for integers beyond 2^24",
    )
    parser.add_argument(
        "--check", type=Path, default=None, metavar="NPZ", help="inputs for the comparison with the original"
    )
    tolerance_flag(parser)
    shape_flag(parser)
    python_flag(parser)
    require_locks_flag(parser)


def run(options: argparse.Namespace) -> int:
    """Raises SettingsError."""
    from gateway.commands.export import list_routes, run_export
    from gateway.config import SettingsError, Sources, home, read_settings
    from gateway.export.export import ExportRequest

    if options.list:
        return list_routes()
    if not options.model or options.to is None:
        raise SettingsError("give MODEL and --to, or --list")
    settings = with_pythons(read_settings(Sources({"require_locks": options.require_locks})), options.python)
    check_runtimes(settings)
    shapes = dict(shape(text) for text in options.shape)
    out = options.out or Path(f"{Path(options.model).name.split('.')[0]}-{options.to}")
    request = ExportRequest(
        options.model,
        options.to,
        out,
        repository=options.repository,
        version=options.version,
        signature=options.signature,
        precision=options.quantize,
        check=options.check,
        calibrate=options.calibrate,
        tolerance=options.tolerance,
        shapes=shapes,
        overwrite=options.overwrite,
        allow_loss=options.allow_loss,
    )
    return run_export(request, home(), settings)
