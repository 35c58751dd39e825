"""What the server and its models say about themselves: the same record for REST and gRPC."""

from collections.abc import Iterable
from typing import Any

import gateway
from gateway.domain.types import completed
from gateway.engine.protocol import Engine
from runtimes.contract import Signature, TensorSpec

EXTENSIONS = (
    "binary_tensor_data", "classification", "model_configuration", "model_repository", "parameters", "schedule_policy",
    "statistics",
)  # fmt: skip


def server_metadata(engine: Engine) -> dict[str, Any]:
    """`extensions` are those that are really served."""
    extensions = [*EXTENSIONS, *(["system_shared_memory"] if engine.shared_memory.enabled else [])]
    return {"name": engine.server_name, "version": gateway.__version__, "extensions": extensions}


def model_metadata(engine: Engine, name: str, version: str = "") -> dict[str, Any]:
    """The default signature of a model, as far as it is known. Raises NotFound.

    What the artifact does not tell is taken from the first request that worked. A datatype that is
    still unknown is ""; a shape of which not even the rank is known is [-1], the widest thing that
    every client can read (without the key they fail, and [] would claim a scalar).
    """
    status = engine.model(name, version)
    signature = status.signature() or status.learned or Signature((), ())
    learned = status.learned or Signature((), ())
    return {
        "name": status.name,
        "versions": [other.version for other in engine.models() if other.name == status.name],
        "platform": status.platform,
        "inputs": _told(signature.inputs, learned.inputs),
        "outputs": _told(signature.outputs or learned.outputs, learned.outputs),
    }


def _told(specs: Iterable[TensorSpec], learned: Iterable[TensorSpec]) -> list[dict[str, Any]]:
    return [
        {"name": spec.name, "datatype": spec.datatype, "shape": [-1] if spec.shape is None else list(spec.shape)}
        for spec in completed(specs, learned)
    ]
