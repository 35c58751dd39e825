"""Reads what a worker sends to the supervisor. Nothing in it is trusted: a hostile model may have written it."""

from collections.abc import Iterable

from runtimes import wire
from runtimes.contract import DATATYPES, Signature, TensorSpec
from runtimes.control import Failed, Learned, Ready
from runtimes.wire import Frame

_MAX_LINE = 8000  # characters. Far more than reasons have


def read_message(frame: Frame) -> Ready | Failed | Learned:
    """Return the message in a frame. Raises one of wire.MALFORMED."""
    body = wire.unpack_json(frame.body)
    if frame.kind == wire.READY:
        ready = Ready.from_json(body)
        _require(isinstance(ready.max_batch_size, int) and ready.max_batch_size >= 0)
        _require(isinstance(ready.window, int) and ready.window >= 0)
        _require(isinstance(ready.batching_off, str) and isinstance(ready.note, str))
        _require(isinstance(ready.execution, str))
        _require(isinstance(ready.decoupled, bool) and isinstance(ready.takes_context, bool))
        _require(isinstance(ready.calls_models, bool) and isinstance(ready.varies, str))
        _require(all(name in ready.signatures for name in ready.batched))
        for signature in ready.signatures.values():
            _check_signature(signature)
        return ready._replace(batching_off=_line(ready.batching_off), note=_line(ready.note))
    if frame.kind == wire.FAILED:
        failed = Failed(**body)
        _require(isinstance(failed.reason, str))
        return Failed(_line(failed.reason))
    _require(frame.kind == wire.LEARNED)
    learned = Learned.from_json(body)
    _require(isinstance(learned.name, str))
    _check_signature(learned.signature)
    return learned


def _check_signature(signature: Signature) -> None:
    _check_specs(signature.inputs)
    _check_specs(signature.outputs)
    _check_specs(signature.unbatched)
    _require(all(name in signature.refused for name in signature.json))
    _require(all(isinstance(reason, str) for reason in dict(signature.refused).values()))
    _require(all(isinstance(name, str) for name in signature.optional))
    _require(all(isinstance(name, str) for names in signature.needs.values() for name in names))


def _check_specs(specs: Iterable[TensorSpec]) -> None:
    for name, datatype, shape in specs:
        _require(isinstance(name, str) and (datatype in DATATYPES or not datatype))
        _require(shape is None or all(type(size) is int and -1 <= size < 1 << 63 for size in shape))


def _line(text: str) -> str:
    """Return a text as one printable line: it goes to the log, where a further line would look like the gateway's."""
    line = " ".join(text.split())[:_MAX_LINE]
    return line if line.isprintable() else "".join(each if each.isprintable() else "?" for each in line)


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError
