"""The flags of `modelport profile`, and what runs with them."""

import argparse
from pathlib import Path

from gateway.cli.flags import check_runtimes, numbers, python_flag, require_locks_flag, shape, shape_flag, with_pythons


def add_flags(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument("--allow-python", action="store_true", help="run compiled code that the artifact contains")
    shape_flag(parser)
    python_flag(parser)
    require_locks_flag(parser)


def run(options: argparse.Namespace) -> int:
    from gateway.commands.profile import run_profile
    from gateway.config import SettingsError, Sources, home, read_settings
    from gateway.profile.profile import BATCH_SIZES, ProfileRequest

    settings = with_pythons(read_settings(Sources({"require_locks": options.require_locks})), options.python)
    check_runtimes(settings)
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
        batch_sizes=numbers("batch-sizes", options.batch_sizes, 65536) or BATCH_SIZES,
        threads=numbers("threads", options.threads, 1024),
        latency_target_ms=options.latency_target_ms,
        inputs=options.inputs,
        shapes=dict(shape(text) for text in options.shape),
        seconds=options.seconds,
        apply=options.apply,
        allow_python=options.allow_python,
    )
    return run_profile(request, home(), settings)
