"""Checks requests against a model's signatures before they are queued. Errors are one sentence for the client."""

from collections.abc import Container, Iterable, Sequence
from math import prod
from typing import NamedTuple

from gateway.domain.tensor_checks import check_datatype, check_shape, check_strings, describe_shape
from gateway.domain.types import InferRequest, ModelStatus
from gateway.errors import InvalidRequest, Unavailable
from runtimes.bounded_cache import BoundedCache
from runtimes.contract import DATATYPES, Signature, TensorSpec
from runtimes.layouts import TensorLayout, by_row, cached, known_layout, new_layout
from runtimes.tensors import Tensor, unpack_bytes

# numpy, in the worker, computes sizes as signed 64-bit numbers, and ignores dimensions of 0 when it checks for
# overflow.
_MAX_BYTES = (1 << 63) - 1
# The size of an element of a BYTES array, without the string itself.
_POINTER_BYTES = 8
# The wire format stores lengths of names in 16 bits.
_MAX_NAME_LENGTH = (1 << 16) - 1
# Valid layouts that are cached per version: as many as codecs remember forms of requests. Clients normally use a
# handful. If there are more, each miss costs one validation; a larger cache would let clients with many shapes occupy
# more memory.
_MAX_LAYOUTS = 1024
# Tensors are checked one by one; this many take about 20 ms, during which the front answers no other request.
MAX_TENSORS = 4096


class ValidRequest(NamedTuple):
    """What the engine needs to know of a valid request.

    rows         its share of a worker's window
    input_bytes  the bytes of all its inputs
    layout       its layout in frames, which names the signature; it leaves the rows open if they are counted
    strings      the positions of the BYTES inputs
    """

    rows: int
    input_bytes: int
    layout: TensorLayout
    strings: tuple[int, ...]


class LayoutValidator:
    """Calls `validate` once per layout of one version, since a request's layout decides whether it fits the model.

    There are exceptions. The lengths of strings are in the bytes, not in the layout, and are checked each time. And all
    of the request is validated each time if the model's outputs are unknown, because clients could fill the cache with
    output names of their own, and if it has inputs or outputs without rows, which only some dialects allow.
    """

    def __init__(self, status: ModelStatus) -> None:
        self._status = status
        self._valid: BoundedCache[TensorLayout, ValidRequest] = BoundedCache(_MAX_LAYOUTS)

    def known(self, layout: TensorLayout) -> ValidRequest | None:
        """Return what `check` found for a layout before, without the bytes of strings. They are not checked here."""
        return self._valid.entries.get(layout)

    def check(self, request: InferRequest) -> ValidRequest:
        """Raises InvalidRequest if the request does not fit the model."""
        key = request.layout or new_layout(request.signature, request.outputs, request.inputs)
        valid = self._valid.entries.get(key)
        if valid is not None:
            return _with_strings(valid, request.inputs) if valid.strings else valid
        status = self._status
        signature = validate(request, status)
        layout = new_layout(request.signature or status.default_signature, request.outputs, request.inputs)
        size = sum(length for _, _, _, length in layout[2] if length > 0)
        strings = tuple([position for position, each in enumerate(layout[2]) if each[1] == "BYTES"])
        runs_alone = _runs_alone(request, signature)
        if status.max_batch_size and not runs_alone:
            layout = by_row(layout, status.batch_dim)
        valid = ValidRequest(1 if runs_alone else _rows(request, status), size, known_layout(layout), strings)
        if signature.outputs and not runs_alone:
            valid = valid._replace(layout=cached(layout))
            self._valid.put(key, valid)
        return _with_strings(valid, request.inputs) if strings else valid


def _with_strings(valid: ValidRequest, inputs: Sequence[Tensor]) -> ValidRequest:
    """Check the strings of a request that is valid otherwise, and count their bytes. Raises InvalidRequest."""
    rows, size, layout, strings = valid
    for position in strings:
        _check_strings(inputs[position])
        size += len(inputs[position].data)
    return ValidRequest(rows, size, layout, strings)


def _runs_alone(request: InferRequest, signature: Signature) -> bool:
    """Whether the request has an input or an output without rows."""
    if not signature.unbatched and not signature.json:
        return False
    names = {spec.name for spec in signature.unbatched}
    return any(tensor.name in names for tensor in request.inputs) or not set(signature.json).isdisjoint(request.outputs)


def _rows(request: InferRequest, status: ModelStatus) -> int:
    if not status.max_batch_size or not request.inputs:
        return 1
    shape = request.inputs[0].shape
    return max(shape[status.batch_dim], 1) if len(shape) > status.batch_dim else 1


def validate(request: InferRequest, status: ModelStatus) -> Signature:
    """Return the signature that the request uses. Raises InvalidRequest if it does not fit that signature."""
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
    unbatched = {spec.name: spec for spec in signature.unbatched}
    for name in given:
        if name not in expected and name not in unbatched:
            raise unknown_input(name, status.name, [*expected, *unbatched])
    _check_outputs(request, signature)
    _check_missing(given, request.outputs, signature, status.name)
    for name, tensor in given.items():
        _check(tensor, expected.get(name) or unbatched[name])
    if status.max_batch_size and signature is status.signature():
        with_rows = [tensor for tensor in request.inputs if tensor.name not in unbatched]
        _check_rows(with_rows, status.batch_dim)
        _check_empty_rows(with_rows, status)
    return signature


def unknown_input(name: str, model: str, known: Iterable[str]) -> InvalidRequest:
    """Return the error for an input that the model does not have."""
    return InvalidRequest(f"model '{model}' has no input '{name}'; it has {_names(known)}")


def _check_missing(given: Container[str], outputs: Sequence[str], signature: Signature, model: str) -> None:
    """Raises InvalidRequest if an input is missing that these outputs need, or, without outputs, any answer needs."""
    needed = signature.needed_for(outputs)
    for name in needed:
        if name in given:
            continue
        if outputs and signature.needs:
            output = next(each for each in outputs if name in signature.needs.get(each, needed))
            raise InvalidRequest(f"input '{name}' is missing; output '{output}' needs it")
        raise InvalidRequest(f"input '{name}' is missing; model '{model}' needs {_names(needed)}")


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
    """Raises InvalidRequest if the request has too many of `what` ("inputs" or "outputs").

    Codecs call it before they read the tensors one by one.
    """
    if count > MAX_TENSORS:
        raise InvalidRequest(f"the request has {count} {what}; at most {MAX_TENSORS} are allowed")


def _check_size(tensor: Tensor, shape: tuple[int, ...]) -> None:
    count = prod(shape)
    itemsize = DATATYPES[tensor.datatype].itemsize
    if prod(size for size in shape if size) * (itemsize or _POINTER_BYTES) > _MAX_BYTES:
        raise InvalidRequest(f"input '{tensor.name}' has shape {list(shape)}, larger than any memory")
    if tensor.datatype == "BYTES":
        # Each string takes at least the four bytes of its length, so a huge shape fails before anything is read.
        if count * 4 > len(tensor.data):
            raise InvalidRequest(
                f"input '{tensor.name}' has {len(tensor.data)} bytes of data, too few for {count} strings"
            )
        check_strings(tensor.name, count)
        _check_strings(tensor)
        return
    expected = count * itemsize
    if len(tensor.data) != expected:
        raise InvalidRequest(
            f"input '{tensor.name}' has {len(tensor.data)} bytes of data, "
            f"but {tensor.datatype} of shape {list(shape)} needs {expected}"
        )


def _check_strings(tensor: Tensor) -> None:
    try:
        unpack_bytes(tensor.data, prod(tensor.shape))
    except ValueError as error:
        raise InvalidRequest(f"input '{tensor.name}' does not fit: {error}") from None


def _check_rows(inputs: Iterable[Tensor], batch_dim: int) -> None:
    rows: dict[str, int] = {}
    for tensor in inputs:
        if len(tensor.shape) <= batch_dim:
            raise InvalidRequest(
                f"input '{tensor.name}' has shape {list(tensor.shape)}; it has no batch dimension {batch_dim}"
            )
        rows[tensor.name] = tensor.shape[batch_dim]
        if not rows[tensor.name]:
            raise InvalidRequest(f"input '{tensor.name}' has 0 rows; at least 1 is required")
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"'{name}' has {count}" for name, count in rows.items())
        raise InvalidRequest(f"all inputs must have the same number of rows, but {counts}")


def _check_empty_rows(inputs: Sequence[Tensor], status: ModelStatus) -> None:
    """Allow at most one batch of rows without values.

    A request's bytes limit its rows, and therefore the runs that it causes. Rows without values (shape [N, 0]) use
    no bytes, so that a request of a hundred bytes could keep a model busy for millions of runs.
    """
    rows = inputs[0].shape[status.batch_dim] if inputs else 0
    if rows > status.max_batch_size and not any(len(tensor.data) for tensor in inputs):
        raise InvalidRequest(
            f"the request has {rows} rows without any values; model '{status.name}' accepts at most "
            f"{status.max_batch_size} such rows"
        )


def _check_outputs(request: InferRequest, signature: Signature) -> None:
    check_count(len(request.outputs), "outputs")
    if not set(request.json) <= set(signature.json):
        raise Unavailable(f"model '{request.model}' has just been replaced, and has other outputs now; try again")
    if signature.json and not signature.outputs and not request.outputs:
        name = signature.json[0]
        raise InvalidRequest(f"output '{name}' cannot be served: {signature.refused[name]}")
    known = {spec.name for spec in signature.outputs}
    seen: set[str] = set()
    for name in request.outputs:
        if name in seen:
            raise InvalidRequest(f"output '{name}' is requested twice")
        seen.add(name)
        if len(name.encode()) > _MAX_NAME_LENGTH:
            raise InvalidRequest(f"an output's name has {len(name)} characters; no model has such an output")
        if name in request.json:
            continue
        if name in signature.refused:
            raise InvalidRequest(f"output '{name}' cannot be served: {signature.refused[name]}")
        # If the outputs are unknown until the model has answered once, the worker checks the names.
        if known and name not in known:
            raise InvalidRequest(f"model '{request.model}' has no output '{name}'; it has {_names(sorted(known))}")


def _fits(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return len(shape) == len(expected) and all(e in (-1, s) for s, e in zip(shape, expected, strict=True))


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
