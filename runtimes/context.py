"""What a request says besides its tensors, on its way to a worker whose model wants to know it."""

import json
from typing import Any, Dict, Mapping, NamedTuple, Optional

from runtimes.contract import SequenceControl
from runtimes.tensor_bytes import Buffer


class Context(NamedTuple):
    """As in contract.Request."""

    id: str = ""
    parameters: Dict[str, Any] = {}
    sequence: Optional[SequenceControl] = None


def pack_context(request_id: str, parameters: Mapping[str, Any], sequence: Optional[SequenceControl]) -> bytes:
    """Return a context as JSON; nothing if there is nothing to say."""
    described: Dict[str, Any] = {}
    if request_id:
        described["id"] = request_id
    if parameters:
        described["parameters"] = dict(parameters)
    if sequence is not None:
        described["sequence"] = list(sequence)
    return json.dumps(described).encode() if described else b""


def unpack_context(packed: Buffer) -> Context:
    if not packed:
        return Context()
    described = json.loads(bytes(packed).decode())
    sequence = described.get("sequence")
    return Context(
        described.get("id", ""),
        described.get("parameters", {}),
        None if sequence is None else SequenceControl(*sequence),
    )
