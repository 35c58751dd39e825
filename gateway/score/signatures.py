"""What of a model's signature a table is matched with."""

from collections.abc import Mapping, Sequence

from gateway.errors import InvalidRequest
from runtimes.contract import Signature


def with_datatypes(signature: Signature, datatypes: Mapping[str, str]) -> Signature:
    """Return the signature with datatypes for inputs that declare none."""
    inputs = (spec._replace(datatype=spec.datatype or datatypes.get(spec.name, "")) for spec in signature.inputs)
    return signature._replace(inputs=tuple(inputs))


def check_outputs(signature: Signature, outputs: Sequence[str]) -> None:
    """Raises InvalidRequest if an output is asked for that the model, if it names them, does not have."""
    names = [spec.name for spec in signature.outputs]
    if names and (unknown := [name for name in outputs if name not in names]):
        raise InvalidRequest(f"the model has no output '{unknown[0]}'; it has {', '.join(names)}")


def wanted_outputs(signature: Signature, outputs: Sequence[str]) -> list[str]:
    """Return the outputs that are asked for; empty for all.

    A table may well have a column of labels, so a model that was saved with its loss answers without it by default.
    """
    if outputs or not signature.needs:
        return list(outputs)
    return signature.outputs_from(signature.needed_for())
