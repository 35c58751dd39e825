"""The Python API of modelport: docs/embedded.md.

    import modelport

    with modelport.load("model_repo/digits") as model:
        scores = model.infer(image=pixels)["probabilities"]

A model.py, which runs in a worker, gets another module of this name (runtimes/python/modelport.py) with the names that
it may use. They are here as well, so that editors and type checkers know them.
"""

import os
from collections.abc import Mapping
from typing import Any

from gateway import __version__
from gateway.embedded.model import Model
from gateway.embedded.options import ModelSpec
from gateway.errors import (
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    ModelportError,
    NotFound,
    OutOfMemory,
    Overloaded,
    TooLarge,
    Unavailable,
    Unsupported,
)
from runtimes.contract import CallFailed, InvalidInput, Request, Signature, TensorSpec

__all__ = [
    "CallFailed",
    "DeadlineExceeded",
    "Internal",
    "InvalidInput",
    "InvalidRequest",
    "Model",
    "ModelSpec",
    "ModelportError",
    "NotFound",
    "OutOfMemory",
    "Overloaded",
    "Request",
    "Signature",
    "TensorSpec",
    "TooLarge",
    "Unavailable",
    "Unsupported",
    "__version__",
    "load",
]


def load(
    location: str | os.PathLike[str],
    *,
    version: str | int = "",
    device: str = "cpu",
    threads: int | None = None,
    instances: int = 1,
    max_batch_size: int | None = None,
    timeout_s: float | None = None,
    allow_python: bool = False,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Model:
    """Load a model in its own environment and process, and return it when it is ready.

    location        an artifact, a model's folder (REPOSITORY/MODEL), a repository with one model, or a remote one,
                    such as s3://BUCKET/MODEL
    version         a number or a label of model.toml; "" for the newest
    device          "cpu", "cuda", "cuda:N" or "auto"
    threads         the number of threads that one inference may use; None: the model's own setting, or all cores
    instances       the number of worker processes
    max_batch_size  the most rows that run together; None: as a gateway would decide
    timeout_s       how long a request may take, from the call to its answer; None: as long as it needs
    allow_python    whether the model may be a program (model.py), which runs in a sandbox
    settings        other keys of model.toml, with their values there
    progress        whether to print to standard error what the model waits for, such as the build of its environment

    The environment is the one that a gateway would build, and is built only once per machine. Raises ModelportError.
    """
    spec = ModelSpec(
        os.fsdecode(location),
        str(version),
        device,
        threads,
        instances,
        max_batch_size,
        timeout_s,
        allow_python,
        dict(settings or {}),
    )
    return spec.load(progress)
