"""The command `modelport`. Each subcommand imports its modules when it runs, so that --help is fast."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import __version__

if TYPE_CHECKING:
    from gateway.config import Settings

_ALLOW_LOSS_HELP = "compare each output relative to its largest value only: small values may be lost"


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="modelport", description="One inference gateway for the models of every deep learning framework."
    )
    parser.add_argument("--version", action="version", version=f"modelport {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = _command(commands, "serve", "serve a model repository, or a single artifact")
    predict = _command(commands, "predict", "send arrays, JSON or images to a running gateway")
    models = _command(commands, "models", "list the models of a running gateway")
    push = _command(commands, "push", "send a model's files to a running gateway that allows it")
    traffic = _command(commands, "traffic", "divide a model's requests among its versions, copy, promote, roll back")
    health = _command(commands, "health", "check that the gateway on this machine is live, or ready")
    keys = _command(commands, "keys", "make an API key, or print the digest of one")
    runtimes = _command(commands, "runtimes", "list runtimes, and build, remove, lock or describe their environments")
    export = _command(commands, "export", "convert a model to TFLite, ExecuTorch, TensorFlow.js or ONNX, and verify it")
    profile = _command(commands, "profile", "measure a model by batch size and threads, and recommend its settings")
    score = _command(commands, "score", "run a model over the rows of files: Parquet, CSV, JSON lines, npz or images")
    compare = _command(commands, "compare", "check whether two models of a running gateway compute the same")
    sbom = _command(commands, "sbom", "print the CycloneDX bill of materials of the gateway itself")
    # Only the chosen command gets its flags, because the names of the settings need an import.
    chosen = next((word for word in argv if not word.startswith("-")), "")
    if chosen == "serve":
        _serve_flags(serve)
    elif chosen == "predict":
        _predict_flags(predict)
    elif chosen == "models":
        _connection_flags(models)
    elif chosen == "push":
        _push_flags(push)
    elif chosen == "traffic":
        _traffic_flags(traffic)
    elif chosen == "health":
        _health_flags(health)
    elif chosen == "keys":
        _keys_flags(keys)
    elif chosen == "runtimes":
        _runtimes_flags(runtimes)
    elif chosen == "export":
        _export_flags(export)
    elif chosen == "profile":
        _profile_flags(profile)
    elif chosen == "score":
        _score_flags(score)
    elif chosen == "compare":
        _compare_flags(compare)
    elif chosen == "sbom":
        sbom.add_argument("--output", type=Path, default=None, metavar="FILE", help="default: standard output")
    options = parser.parse_args(argv)
    try:
        return _run(options, export)
    except KeyboardInterrupt:  # while it starts; later, each command has its own way to stop
        print("modelport: stopped", file=sys.stderr)
        return 130
    except Exception as error:
        from gateway.config import SettingsError  # imported here, so that --help does not import it

        if not isinstance(error, SettingsError):
            raise
        print(f"modelport: {error}", file=sys.stderr)
        return 2


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str
) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")


def _run(options: argparse.Namespace, export: argparse.ArgumentParser) -> int:
    """Raises SettingsError."""
    if options.command == "serve":
        return _serve(options)
    if options.command == "predict":
        return _predict(options)
    if options.command == "export":
        return _export(options, export)
    if options.command == "profile":
        return _profile(options)
    if options.command == "score":
        return _score(options)
    if options.command == "compare":
        return _compare(options)
    if options.command == "health":
        from gateway.commands.health import health

        return health(options.ready, options.cert, options.key)
    if options.command == "keys":
        from gateway.commands.keys import print_digest, print_new_key

        return print_new_key(options.name) if options.verb == "new" else print_digest()
    if options.command == "models":
        from gateway.commands.connection import from_flags
        from gateway.commands.models import print_models

        return print_models(from_flags(options))
    if options.command == "push":
        return _push(options)
    if options.command == "traffic":
        return _traffic(options)
    if options.command == "sbom":
        return _sbom(options)
    return _runtimes(options)


def _serve_flags(parser: argparse.ArgumentParser) -> None:
    from gateway.config import Settings

    parser.add_argument(
        "repository", nargs="*",
        help="folders, artifacts and URLs, such as s3://bucket/models; default: what the platform has put into this "
        "container, or else model_repo",
    )  # fmt: skip
    parser.add_argument("--only", default="", metavar="NAMES", help="runtimes to build and use, such as onnx,mxnet")
    _python_flag(parser)
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


def _python_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--python", action="append", default=[], metavar="RUNTIME=PATH",
        help="use this interpreter, which has the runtime's framework",
    )  # fmt: skip


def _serve(options: argparse.Namespace) -> int:
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
    settings = _with_pythons(settings, options.python)
    _check_runtimes(settings)
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


def _with_pythons(settings: "Settings", pairs: list[str]) -> "Settings":
    from gateway.config import RuntimeSettings, SettingsError

    runtimes = dict(settings.runtimes)
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or not os.path.exists(path):
            raise SettingsError(f"--python '{pair}': use RUNTIME=PATH, with the path of an interpreter")
        runtimes[name] = RuntimeSettings(python=Path(path))
    return settings.model_copy(update={"runtimes": runtimes})


def _check_runtimes(settings: "Settings") -> None:
    """Raises SettingsError if the settings name a runtime that does not exist, which would have no effect."""
    from gateway.config import SettingsError
    from gateway.environments.runtime import converters, discover

    if not settings.runtimes:
        return
    known = {**discover(), **converters()}
    for name in settings.runtimes:
        if name not in known:
            raise SettingsError(f"there is no runtime '{name}' that could use a Python; there are {', '.join(known)}")


def _connection_flags(parser: argparse.ArgumentParser) -> None:
    from gateway.commands.connection import add_flags

    add_flags(parser)


def _predict_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a model of the gateway")
    parser.add_argument(
        "--input", action="append", required=True, metavar="[NAME=]VALUE", dest="inputs",
        help="JSON such as '[[1, 2]]', or @FILE: .npy, .json or an image; NAME= is for models with several inputs",
    )  # fmt: skip
    _connection_flags(parser)
    parser.add_argument("--version", default="", help="a version of the model; default: the newest")
    parser.add_argument("--output", default="", metavar="NAME", help="show only this output, as numbers")
    parser.add_argument("--top", type=int, default=0, metavar="N", help="show the N highest scores")


def _predict(options: argparse.Namespace) -> int:
    from gateway.commands.connection import from_flags
    from gateway.commands.predict import Question, predict

    if options.top < 0:
        print("modelport: --top must not be negative", file=sys.stderr)
        return 2
    question = Question(
        options.model, options.inputs, from_flags(options), options.version, options.output, options.top
    )
    return predict(question)


def _traffic_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a model of the gateway")
    _connection_flags(parser)
    parser.add_argument("--weights", default="", metavar="3=95,4=5", help="versions and weights; none removes them")
    parser.add_argument("--shadow", default="", metavar="VERSION", help="a version that gets copies; none ends that")
    parser.add_argument("--of", default="", metavar="VERSION", help="whose requests are copied; default: the main one")
    parser.add_argument("--share", type=float, default=None, metavar="X", help="how many of them (default: 1)")
    parser.add_argument("--promote", default="", metavar="VERSION", help="give it all requests without a version")
    parser.add_argument("--rollback", action="store_true", help="undo the newest change at run time")


def _traffic(options: argparse.Namespace) -> int:
    from gateway.commands.connection import from_flags
    from gateway.commands.traffic import Change, traffic

    change = Change(options.weights, options.shadow, options.of, options.share, options.promote, options.rollback)
    return traffic(from_flags(options), options.model, change)


def _push_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="the model's name at the gateway")
    parser.add_argument("path", type=Path, help="an artifact, a folder with one, or a model's folder")
    _connection_flags(parser)
    parser.add_argument("--version", default="1", help="the version of an artifact; default: 1")
    parser.add_argument(
        "--config", type=Path, default=None, metavar="FILE",
        help="a config.pbtxt, or the same in JSON; default: the config.pbtxt of a model's folder",
    )  # fmt: skip


def _push(options: argparse.Namespace) -> int:
    from gateway.commands.connection import from_flags
    from gateway.commands.push import push

    return push(from_flags(options), options.model, options.path, options.version, options.config)


def _keys_flags(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    new = _command(verbs, "new", "print a new API key, and the lines to add to the file of identities")
    new.add_argument("name", help="the name of the client")
    _command(verbs, "hash", "read an API key from standard input, and print its digest")


def _health_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ready", action="store_true", help="check that it is ready; default: that it is live")
    parser.add_argument("--cert", type=Path, metavar="FILE", help="client certificate in PEM format, if it needs one")
    parser.add_argument("--key", type=Path, metavar="FILE", help="its private key; default: in the file of --cert")


def _runtimes_flags(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = _command(verbs, "list", "show state, versions, size and Python of all runtimes")
    install = _command(verbs, "install", "build a runtime's environment")
    install.add_argument("name", help="a runtime, such as onnx; modelport runtimes list shows all")
    install.add_argument("--python", type=Path, default=None, help="the interpreter to build from")
    remove = _command(verbs, "remove", "delete the environments of a runtime, or of models with packages of their own")
    remove.add_argument("name", help="onnx, for example, or python-1f0c29ab; modelport runtimes list shows all")
    lock = _command(verbs, "lock", "write lock files, from which environments are built with hashes")
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
    sbom = _command(verbs, "sbom", "print the CycloneDX bill of materials of built environments")
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
        _require_locks_flag(each)


def _require_locks_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--require-locks", action=argparse.BooleanOptionalAction, default=None,
        help="build environments only from lock files; default: the setting require_locks",
    )  # fmt: skip


def _runtimes(options: argparse.Namespace) -> int:
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


def _sbom(options: argparse.Namespace) -> int:
    from gateway.commands.sbom import gateway_sbom

    return gateway_sbom(options.output)


def _export_flags(parser: argparse.ArgumentParser) -> None:
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
        help=f"{_ALLOW_LOSS_HELP}; the export may be wrong for integers beyond 2^24",
    )
    parser.add_argument(
        "--check", type=Path, default=None, metavar="NPZ", help="inputs for the comparison with the original"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=None,
        metavar="X",
        help="allowed difference, relative to an output's largest value",
    )
    _shape_flag(parser)
    _python_flag(parser)
    _require_locks_flag(parser)


def _shape_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shape", action="append", default=[], metavar="NAME=SIZES",
        help="sizes of an input with free dimensions, such as image=1,3,224,224",
    )  # fmt: skip


def _export(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from gateway.commands.export import list_routes, run_export
    from gateway.config import Sources, home, read_settings
    from gateway.export.export import ExportRequest

    if options.list:
        return list_routes()
    if not options.model or options.to is None:
        parser.error("MODEL and --to are required, unless --list is given")
    settings = _with_pythons(read_settings(Sources({"require_locks": options.require_locks})), options.python)
    _check_runtimes(settings)
    shapes = dict(_shape(text) for text in options.shape)
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


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Parse NAME=1,3,224,224. Raises SettingsError."""
    from gateway.config import SettingsError

    name, equals, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.split(",") if size)
    except ValueError:
        shape = (0,)
    if not equals or any(size < 1 for size in shape):
        raise SettingsError(f"--shape '{text}': use NAME=SIZES, such as image=1,3,224,224")
    return name, shape


def _profile_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a model of the repository, or an artifact's path")
    parser.add_argument("--repository", type=Path, default=Path("model_repo"), help="default: model_repo")
    parser.add_argument("--version", default="", help="a version of the model; default: the newest")
    parser.add_argument("--signature", default="", help="a signature of the model; default: its first")
    parser.add_argument(
        "--runtime", default="", help="a runtime that reads the artifact; default: the one that serves it"
    )
    parser.add_argument("--output", type=Path, default=None, metavar="DIR", help="default: profile-MODEL")
    parser.add_argument("--batch-sizes", default="", metavar="N,…", help="default: 1,2,4,8,16,32,64")
    parser.add_argument("--threads", default="", metavar="N,…", help="default: powers of two up to the number of cores")
    parser.add_argument(
        "--latency-target-ms", type=float, default=0.0, metavar="X",
        help="time from a request's arrival to its answer that the recommendation must keep; default: none",
    )  # fmt: skip
    parser.add_argument(
        "--inputs", default="", metavar="FILE",
        help="real inputs: an npz, or JSON lines of v2 requests; or 'generated'. Default: samples.npz of the model's "
        "folder if there is one",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=1.0, metavar="X", help="time for each point; default: 1")
    parser.add_argument("--apply", action="store_true", help="change the model's model.toml as recommended")
    _shape_flag(parser)
    _python_flag(parser)
    _require_locks_flag(parser)


def _profile(options: argparse.Namespace) -> int:
    from gateway.commands.profile import run_profile
    from gateway.config import SettingsError, Sources, home, read_settings
    from gateway.profile.profile import BATCH_SIZES, ProfileRequest

    settings = _with_pythons(read_settings(Sources({"require_locks": options.require_locks})), options.python)
    _check_runtimes(settings)
    for name, value, low, high in (
        ("latency-target-ms", options.latency_target_ms, 0, 3_600_000),
        ("seconds", options.seconds, 0.001, 3600),
    ):
        if not low <= value <= high:
            raise SettingsError(f"--{name} is {value:g}: it must be from {low:g} to {high}")
    request = ProfileRequest(
        options.model,
        options.output or Path(f"profile-{Path(options.model).name.split('.')[0]}"),
        repository=options.repository,
        version=options.version,
        signature=options.signature,
        runtime=options.runtime,
        batch_sizes=_numbers("batch-sizes", options.batch_sizes, 65536) or BATCH_SIZES,
        threads=_numbers("threads", options.threads, 1024),
        latency_target_ms=options.latency_target_ms,
        inputs=options.inputs,
        shapes=dict(_shape(text) for text in options.shape),
        seconds=options.seconds,
        apply=options.apply,
    )
    return run_profile(request, home(), settings)


def _score_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="an artifact, REPOSITORY/MODEL, or a URL such as s3://BUCKET/MODEL")
    parser.add_argument(
        "inputs", nargs="+", metavar="input", help="files of one kind, patterns such as 'in/*.parquet', or a folder"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="its suffix names the format: .parquet, .csv, .jsonl, …",
    )
    parser.add_argument(
        "--engine", choices=("local", "spark", "ray"), default="local",
        help="where the model runs: on this machine, or on those of a cluster; default: local",
    )  # fmt: skip
    parser.add_argument(
        "--master", default="", metavar="URL", help="of Spark; default: spark-submit's, or all cores of this machine"
    )
    parser.add_argument(
        "--ray-address", default="", metavar="ADDRESS", help="of Ray; default: RAY_ADDRESS, or a cluster started here"
    )
    parser.add_argument("--version", default="", help="a version of the model; default: the newest")
    parser.add_argument(
        "--column", action="append", default=[], metavar="INPUT=COLUMN", help="make this input of that column"
    )
    parser.add_argument(
        "--keep", default=None, metavar="COLUMNS",
        help="columns to copy to the output, such as id,name, or 'all' or 'none'; default: all that make no input",
    )  # fmt: skip
    parser.add_argument("--outputs", default="", metavar="NAMES", help="outputs to compute; default: all")
    parser.add_argument("--prefix", default="", metavar="TEXT", help="what the names of outputs' columns begin with")
    parser.add_argument(
        "--bad", type=Path, default=None, metavar="FILE", help="for bad rows; default: OUTPUT.bad.jsonl"
    )
    parser.add_argument("--restart", action="store_true", help="forget what an earlier run has finished")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    parser.add_argument(
        "--part-seconds", type=float, default=10.0, metavar="X",
        help="how often what is finished is kept, so that an interrupted run continues there; default: 10",
    )  # fmt: skip
    parser.add_argument("--batch-rows", default="", metavar="N", help="rows to read at a time; default: by their size")
    parser.add_argument("--instances", default="1", metavar="N", help="worker processes; default: 1")
    parser.add_argument(
        "--threads", default="", metavar="N", help="threads of each; default: the model's, or all cores"
    )
    parser.add_argument("--max-batch-size", default="", metavar="N", help="most rows that run together; 0: each alone")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or auto; default: cpu")
    parser.add_argument("--allow-python", action="store_true", help="run a model that is a program: model.py")


def _score(options: argparse.Namespace) -> int:
    """Raises SettingsError."""
    from gateway.config import SettingsError

    try:
        import pyarrow  # noqa: F401 - the extra
    except ImportError:
        raise SettingsError("modelport score needs the package pyarrow: pip install 'modelport[score]'") from None
    from gateway.commands.score import run_score
    from gateway.commands.score_request import open_engine, score_request

    request = score_request(options)

    return run_score(request, open_engine(options))


def _numbers(flag: str, text: str, largest: int) -> tuple[int, ...]:
    """Parse 1,2,4. Raises SettingsError."""
    from gateway.config import SettingsError

    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isascii() and word.isdigit() and 0 < int(word) <= largest for word in words):
        raise SettingsError(f"--{flag} '{text}': use numbers from 1 to {largest}, separated by commas, such as 1,2,4")
    return tuple(map(int, words))


def _compare_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--allow-loss", action="store_true", help=_ALLOW_LOSS_HELP)
    parser.add_argument("first", help="MODEL or MODEL/VERSION")
    parser.add_argument("second", help="another MODEL or MODEL/VERSION with the same inputs and outputs")
    _connection_flags(parser)
    parser.add_argument("--data", type=Path, default=None, metavar="NPZ", help="inputs; default: generated ones")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=None,
        metavar="X",
        help="allowed difference, relative to an output's largest value",
    )
    _shape_flag(parser)


def _compare(options: argparse.Namespace) -> int:
    from gateway.commands.compare import Comparison, compare
    from gateway.commands.connection import from_flags
    from gateway.export.comparison import TOLERANCES

    shapes = dict(_shape(text) for text in options.shape)
    tolerance = TOLERANCES["float32"] if options.tolerance is None else options.tolerance
    comparison = Comparison(
        options.first, options.second, from_flags(options), options.data, tolerance, shapes, options.allow_loss
    )
    return compare(comparison)
