"""The flags of `modelport score` as a request."""

import argparse
from functools import partial

from gateway.config import SettingsError
from gateway.embedded.options import ModelSpec
from gateway.score.engine import OpenEngine
from gateway.score.run import ScoreRequest
from gateway.score.scorer import ScoreOptions


def score_request(options: argparse.Namespace) -> ScoreRequest:
    """Raises SettingsError."""
    columns = dict[str, str]()
    for text in options.column:
        name, equals, column = text.partition("=")
        if not equals or not name or not column:
            raise SettingsError(f"--column '{text}': use INPUT=COLUMN")
        columns[name] = column
    keep = None if options.keep is None else tuple(_words(options.keep))
    spec = ModelSpec(
        options.model,
        options.version,
        options.device,
        threads=_number("threads", options.threads, 1024),
        instances=_number("instances", options.instances, 64) or 1,
        max_batch_size=_number("max-batch-size", options.max_batch_size, 65536),
        allow_python=options.allow_python,
    )
    return ScoreRequest(
        spec,
        tuple(options.inputs),
        options.output,
        ScoreOptions(columns, () if keep == ("none",) else keep, tuple(_words(options.outputs)), options.prefix),
        _number("batch-rows", options.batch_rows, 1 << 20) or 0,
        options.bad,
        options.part_seconds,
        options.restart,
        options.overwrite,
    )


def open_engine(options: argparse.Namespace) -> OpenEngine | None:
    """Return how the chosen engine is started; None for the local one. Raises SettingsError."""
    for flag, value, engine in (("master", options.master, "spark"), ("ray-address", options.ray_address, "ray")):
        if value and options.engine != engine:
            raise SettingsError(f"--{flag} is for --engine {engine}; the engine is {options.engine}")
    if options.engine == "spark":
        from gateway.cluster.spark_engine import spark_engine

        return partial(spark_engine, options.master)
    if options.engine == "ray":
        from gateway.cluster.ray_engine import ray_engine

        return partial(ray_engine, options.ray_address)
    return None


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _number(flag: str, text: str, largest: int) -> int | None:
    if not text:
        return None
    smallest = 0 if flag == "max-batch-size" else 1
    if not (text.isascii() and text.isdigit() and smallest <= int(text) <= largest):
        raise SettingsError(f"--{flag} '{text}': use a number from {smallest} to {largest}")
    return int(text)
