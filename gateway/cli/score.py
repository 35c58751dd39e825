"""The flags of `modelport score`, and what runs with them."""

import argparse
import os
from pathlib import Path


def add_flags(parser: argparse.ArgumentParser) -> None:
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


def run(options: argparse.Namespace) -> int:
    """Raises SettingsError."""
    from gateway.config import SettingsError

    # Arrow's allocator reads this when it is loaded. By default it returns free memory to the kernel after a moment, in
    # which the model has not finished its batch, and each page has to be cleared again for the next rows.
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", "-1")
    try:
        import pyarrow  # noqa: F401 - the extra
    except ImportError:
        raise SettingsError("modelport score needs the package pyarrow: pip install 'modelport[score]'") from None
    from gateway.commands.score import run_score
    from gateway.commands.score_request import open_engine, score_request

    request = score_request(options)

    return run_score(request, open_engine(options))
