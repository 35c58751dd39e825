"""Whether a request fits the model, said in one sentence if not; before anything reaches a worker."""

from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple

from gateway.domain.tensor_checks import check_datatype, check_shape, check_strings, describe_shape
from gateway.domain.types import InferRequest, ModelStatus
from gateway.errors import InvalidRequest
from runtimes.bounded_cache import BoundedCache
from runtimes.contract import DATATYPES, Signature, TensorSpec
from runtimes.tensors import Tensor, unpack_bytes
from runtimes.wire import Form

# A worker's numpy counts bytes in 64 bits, even those of a tensor with a dimension of 0.
_MAX_BYTES = (1 << 63) - 1
# What an element of BYTES takes in its array, apart from the string.
_POINTER_BYTES = 8
# The wire writes lengths of names in 16 bits.
_MAX_NAME_LENGTH = (1 << 16) - 1
_MAX_FORMS = 512
# Tensors are looked at one by one: so many take some 20 ms.
MAX_TENSORS = 4096


class Checked(NamedTuple):
    """A request that fits. rows: what it takes of a worker's window; size: the bytes of its inputs."""

    rows: int
    size: int


class FormChecks:
    """`validate` for one model, remembering which forms fit: whether a request does is a matter of its form alone.

    Save for strings, which lie in the bytes; and where the model's outputs are not known, clients could
    have any number of forms remembered.
    """

    def __init__(self, status: ModelStatus) -> None:
        self._status = status
        self._known: BoundedCache[Form, Checked] = BoundedCache(_MAX_FORMS)

    def check(self, request: InferRequest, form: Form) -> Checked:
        """Raises InvalidRequest."""
        checked = self._known.entries.get(form)
        if checked is not None:
            return checked
        signature = validate(request, self._status)
        checked = Checked(_rows(request, self._status), sum(size for _, _, _, size in form[2]))
        if signature.outputs and all(datatype != "BYTES" for _, datatype, _, _ in form[2]):
            self._known.put(form, checked)
        return checked


def _rows(request: InferRequest, status: ModelStatus) -> int:
    if not status.max_batch_size or not request.inputs:
        return 1
    shape = request.inputs[0].shape
    return max(shape[status.batch_dim], 1) if len(shape) > status.batch_dim else 1


def validate(request: InferRequest, status: ModelStatus) -> Signature:
    """The signature that the request uses. Raises InvalidRequest."""
    signature = status.signature(request.signature)
    if signature is None:
        raise InvalidRequest(
            f"model '{status.name}' has no signature '{request.signature}'; it has {_names(status.signatures)}"
        )
    given: dict[str, Tensor] = {}
    for tensor in request.inputs:
        if tensor.name in given:
            raise InvalidRequest(f"input '{tensor.name}' is given twice")
        given[tensor.name] = tensor
    expected = {spec.name: spec for spec in signature.inputs}
    for name in given:
        if name not in expected:
            raise no_input(name, status.name, expected)
    for name, spec in expected.items():
        if name not in given:
            raise InvalidRequest(f"input '{name}' is missing; model '{status.name}' needs {_names(expected)}")
        _check(given[name], spec)
    if status.max_batch_size and signature is status.signature():
        _check_rows(request.inputs, status.batch_dim)
        _check_empty_rows(request.inputs, status)
    _check_outputs(request.outputs, signature, status.name)
    return signature


def no_input(name: str, model: str, known: Iterable[str]) -> InvalidRequest:
    """The error for an input that the model does not have."""
    return InvalidRequest(f"model '{model}' has no input '{name}'; it has {_names(known)}")


def _check(tensor: Tensor, spec: TensorSpec) -> None:
    name, shape = tensor.name, tuple(tensor.shape)
    check_datatype(name, tensor.datatype)
    check_shape(name, shape)
    if spec.datatype and tensor.datatype != spec.datatype:
        raise InvalidRequest(f"input '{name}' has datatype {tensor.datatype}, expected {spec.datatype}")
    if spec.shape is not None and not _fits(shape, spec.shape):
        raise InvalidRequest(f"input '{name}' has shape {list(shape)}, expected {describe_shape(spec.shape)}")
    _check_size(tensor, shape)


def check_count(count: int, what: str) -> None:
    """Raises InvalidRequest. Codecs call it before they look at each of the `what`, inputs or outputs."""
    if count > MAX_TENSORS:
        raise InvalidRequest(f"the request has {count} {what}; no model has more than {MAX_TENSORS}")


def _check_size(tensor: Tensor, shape: tuple[int, ...]) -> None:
    count = prod(shape)
    itemsize = DATATYPES[tensor.datatype].itemsize
    if prod(size for size in shape if size) * (itemsize or _POINTER_BYTES) > _MAX_BYTES:
        raise InvalidRequest(f"input '{tensor.name}' has shape {list(shape)}, larger than any memory")
    if tensor.datatype == "BYTES":
        # Each element takes at least its length, so a huge shape fails before anything is read.
        if count * 4 > len(tensor.data):
            raise InvalidRequest(
                f"input '{tensor.name}' has {len(tensor.data)} bytes of data, too few for {count} strings"
            )
        check_strings(tensor.name, count)
        try:
            unpack_bytes(tensor.data, count)
        except ValueError as error:
            raise InvalidRequest(f"input '{tensor.name}' does not fit: {error}") from None
        return
    wanted = count * itemsize
    if len(tensor.data) != wanted:
        raise InvalidRequest(
            f"input '{tensor.name}' has {len(tensor.data)} bytes of data, "
            f"but {tensor.datatype} of shape {list(shape)} takes {wanted}"
        )


def _check_rows(inputs: Iterable[Tensor], batch_dim: int) -> None:
    rows: dict[str, int] = {}
    for tensor in inputs:
        if len(tensor.shape) <= batch_dim:
            raise InvalidRequest(
                f"input '{tensor.name}' has shape {list(tensor.shape)}; it has no batch dimension {batch_dim}"
            )
        rows[tensor.name] = tensor.shape[batch_dim]
        if not rows[tensor.name]:
            raise InvalidRequest(f"input '{tensor.name}' has 0 rows; at least 1 is wanted")
    if len(set(rows.values())) > 1:
        told = ", ".join(f"'{name}' has {count}" for name, count in rows.items())
        raise InvalidRequest(f"all inputs must have the same number of rows, but {told}")


def _check_empty_rows(inputs: Sequence[Tensor], status: ModelStatus) -> None:
    """The bytes of a request bound its rows, and so the runs that it takes; rows without any values have none."""
    rows = inputs[0].shape[status.batch_dim] if inputs else 0
    if rows > status.max_batch_size and not any(len(tensor.data) for tensor in inputs):
        raise InvalidRequest(
            f"the request has {rows} rows without any values; model '{status.name}' takes at most "
            f"{status.max_batch_size} such rows at once"
        )


def _check_outputs(wanted: Sequence[str], signature: Signature, model: str) -> None:
    check_count(len(wanted), "outputs")
    known = {spec.name for spec in signature.outputs}
    asked: set[str] = set()
    for name in wanted:
        if name in asked:
            raise InvalidRequest(f"output '{name}' is asked for twice")
        asked.add(name)
        if len(name.encode()) > _MAX_NAME_LENGTH:
            raise InvalidRequest(f"an output's name has {len(name)} characters; no model has such an output")
        if name in signature.refused:
            raise InvalidRequest(f"output '{name}' cannot be served: {signature.refused[name]}")
        # Where the outputs are not known before the first answer, the worker checks.
        if known and name not in known:
            raise InvalidRequest(f"model '{model}' has no output '{name}'; it has {_names(sorted(known))}")


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(w in (-1, s) for s, w in zip(shape, wanted, strict=True))


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
