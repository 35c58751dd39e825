"""Metadata of the server and its models, as records for REST and gRPC."""

from collections.abc import Iterable
from typing import Any

import gateway
from gateway.domain.types import complete_specs
from gateway.engine.protocol import Engine
from runtimes.contract import Signature, TensorSpec

EXTENSIONS = (
    "binary_tensor_data", "classification", "logging", "model_configuration", "model_repository", "parameters",
    "schedule_policy", "statistics", "trace",
)  # fmt: skip


def server_metadata(engine: Engine) -> dict[str, Any]:
    """Describe the server. `extensions` has only those that are enabled."""
    extensions = [*EXTENSIONS, *(["system_shared_memory"] if engine.shared_memory.enabled else [])]
    return {"name": engine.server_name, "version": gateway.__version__, "extensions": extensions}


def model_metadata(engine: Engine, name: str, version: str = "") -> dict[str, Any]:
    """Describe the default signature of a model, as far as it is known. Raises NotFound.

    Facts that the artifact does not contain come from the first successful request. A datatype that is still unknown
    is "", and a shape of unknown rank is [-1]: clients fail if the key is missing, and [] would mean a scalar.
    """
    status = engine.model(name, version)
    signature = status.signature() or status.learned or Signature((), ())
    learned = status.learned or Signature((), ())
    return {
        "name": status.name,
        "versions": [other.version for other in engine.models() if other.name == status.name],
        "platform": status.platform,
        "inputs": _describe(signature.inputs, learned.inputs),
        "outputs": _describe(signature.outputs or learned.outputs, learned.outputs),
    }


def _describe(specs: Iterable[TensorSpec], learned: Iterable[TensorSpec]) -> list[dict[str, Any]]:
    return [
        {"name": spec.name, "datatype": spec.datatype, "shape": [-1] if spec.shape is None else list(spec.shape)}
        for spec in complete_specs(specs, learned)
    ]
