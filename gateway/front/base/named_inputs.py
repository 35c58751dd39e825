"""The inputs of dialects whose JSON has values by name, without datatypes or shapes: as columns or as rows.

{"x": [[1, 2], [3, 4]]}           columns
[[1, 2], [3, 4]]                  either, for a signature with one input
[{"x": [1, 2]}, {"x": [3, 4]}]    rows, for a signature with several
"""

from collections.abc import Container, Iterable, Mapping
from typing import Any

from gateway.codecs.json_tensors import guess_tensor, read_tensor
from gateway.domain.types import ModelStatus, unavailable
from gateway.engine.validate import unknown_input
from gateway.errors import InvalidRequest
from runtimes.contract import Signature
from runtimes.tensors import Tensor


def find_signature(status: ModelStatus, name: str) -> Signature:
    """Return the signature of this name; "" is the default one.

    Raises InvalidRequest, and Unavailable if no signature is known yet.
    """
    signature = status.signature(name)
    if signature is None and not status.signatures:
        raise unavailable(status)
    if signature is None:
        known = ", ".join(f"'{known}'" for known in status.signatures)
        raise InvalidRequest(f"model '{status.name}' has no signature '{name}'; it has {known}")
    return signature


def only_input(signature: Signature, model: str) -> str:
    """Return the name of the only input, or of the only one that is not optional. Raises InvalidRequest."""
    only = signature.only_input()
    if only is None:
        names = ", ".join(f"'{spec.name}'" for spec in signature.inputs)
        raise InvalidRequest(f"model '{model}' has {len(signature.inputs)} inputs; send each by its name: {names}")
    return only.name


def read_inputs(document: Mapping[str, Any], status: ModelStatus, signature: Signature) -> list[Tensor]:
    """Read the document's "inputs" (columns) or "instances" (rows). Raises InvalidRequest."""
    if ("inputs" in document) == ("instances" in document):
        raise InvalidRequest("the body must have either 'inputs' (by name) or 'instances' (rows)")
    if "instances" in document:
        named = _columns(document["instances"], status, signature)
    elif isinstance(document["inputs"], dict) and not _is_binary(document["inputs"], signature):
        named = document["inputs"]
    else:
        named = {only_input(signature, status.name): document["inputs"]}
    declared = {spec.name: spec.datatype for spec in signature.inputs + signature.unbatched}
    for name in named:  # before any values are read, because a request may have a million names
        if name not in declared:
            raise unknown_input(name, status.name, declared)
    return [
        read_tensor(name, data, declared[name])
        if declared.get(name)
        else guess_tensor(name, data, _learned_datatype(status, name))
        for name, data in named.items()
    ]


def _is_binary(value: Mapping[str, Any], signature: Signature) -> bool:
    """Whether {"b64": …} is an encoded string and not the value of an input with that name."""
    return value.keys() == {"b64"} and all(spec.name != "b64" for spec in signature.inputs)


def _learned_datatype(status: ModelStatus, name: str) -> str:
    """Return the datatype that the first request revealed; "" if none has."""
    inputs = status.learned.inputs if status.learned else ()
    return next((spec.datatype for spec in inputs if spec.name == name), "")


def _columns(rows: Any, status: ModelStatus, signature: Signature) -> dict[str, Any]:
    """Convert rows to the values of each input."""
    if not isinstance(rows, list):
        raise InvalidRequest("'instances' must be a list of rows")
    if status.batch_dim:
        raise InvalidRequest(f"the rows of model '{status.name}' are not its first dimension; use 'inputs'")
    names = [spec.name for spec in signature.inputs]
    by_name = bool(rows) and isinstance(rows[0], dict) and not _is_binary(rows[0], signature)
    if not by_name:
        return {only_input(signature, status.name): rows}
    # What is left out is left out of each row. If outputs decide which inputs are needed, they do so later.
    given = rows[0].keys()
    needed = [] if signature.needs else signature.needed_for()
    if not set(needed) <= given <= set(names):
        raise _not_a_row(given, needed or names, signature)
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != given:
            raise InvalidRequest(
                f"instances[{index}] must be an object with the same inputs as instances[0]: {', '.join(given)}"
            )
    return {name: [row[name] for row in rows] for name in names if name in given}


def _not_a_row(given: Container[str], needed: Iterable[str], signature: Signature) -> InvalidRequest:
    for spec in signature.unbatched:
        if spec.name in given:
            return InvalidRequest(f"input '{spec.name}' has no rows, so it cannot be in 'instances'; use 'inputs'")
    return InvalidRequest(f"instances[0] must be an object with a row for each input: {', '.join(needed)}")
