"""Results and errors as frames (wire.py): a worker packs them, and a front unpacks them."""

import struct
from functools import lru_cache
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

from runtimes.layouts import (
    ALIGNMENT,
    GroupedTensors,
    TensorGroup,
    TensorLayout,
    layout_of,
    pack_layout,
    string_sizes,
    unpack_layout,
)
from runtimes.tensor_bytes import Buffer, Tensor
from runtimes.wire import (
    FINAL,
    FIRST_OF_BATCH,
    HEADER,
    IN_RESULT_MEMORY,
    PADDING,
    RESULT,
    VERSION,
    WireError,
    pack,
    pack_sizes,
    unpack_json,
    unpack_sizes,
)

# Compute input, infer and output (ns), rows of the batch, number of results, number of tensors that are strings, length
# of the layout; then the request ids, times in the queue (ns) and rows of all results.
_RESULT = struct.Struct("<QQQIIII")
# Offset and length, with IN_RESULT_MEMORY.
_RANGE = struct.Struct("<QQ")
# What writes the bytes of several tensors, each aligned, into the memory for results, and returns their range. It
# returns None if it has not done so: the tensors are small, or the memory is full.
PutResults = Callable[[Sequence[Buffer]], Optional[Tuple[int, int]]]
# Formats of these numbers that are kept, one for each number of requests in a frame.
_MAX_FORMATS = 512


@lru_cache(_MAX_FORMATS)
def _result_numbers(count: int) -> struct.Struct:
    return struct.Struct("<%dQ" % (3 * count))


class ResultFrame(NamedTuple):
    """A result. Durations are in nanoseconds.

    Results that share a frame ran in the same batch, so that only `queue_ns` and the outputs' rows and bytes differ.

    batch_rows: rows of the batch in which the request ran. layout: as in InferFrame. final: whether this is the
    request's last result; it is sent as a flag of the header, and therefore takes no bytes.
    """

    queue_ns: int
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int
    batch_rows: int
    outputs: List[Tensor]
    layout: Optional[TensorLayout] = None
    final: bool = True


class ResultGroup(NamedTuple):
    """The results in one frame, which ran in the same batch. Durations are in nanoseconds.

    numbers, queue_ns: of each result, its request's id and time in the worker's queue; the rest is as in ResultFrame,
    and `first_of_batch` the flag.
    """

    numbers: Tuple[int, ...]
    queue_ns: Tuple[int, ...]
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int
    batch_rows: int
    outputs: TensorGroup
    final: bool = True
    first_of_batch: bool = False


def pack_result(
    results: Sequence[Tuple[int, ResultFrame]],
    flags: int = 0,
    put: Optional[PutResults] = None,
    kind: int = RESULT,
) -> List[Buffer]:
    """Return the buffers of one RESULT frame, or one of another kind, with these (request id, result).

    They must come from the same batch, have the same layout, and be either all final or all not. `put` is offered the
    tensors.
    """
    first = results[0][1]
    layout = first.layout or layout_of("", (), first.outputs)
    each = [[tensor.data for tensor in frame.outputs] for _, frame in results]
    outputs = each[0]
    if len(each) > 1:
        outputs = [b"".join([buffers[tensor] for buffers in each]) for tensor in range(len(layout[2]))]
    numbers, queue_ns = [number for number, _ in results], [frame.queue_ns for _, frame in results]
    common = first._replace(layout=layout)
    return pack_grouped_results(
        numbers, queue_ns, [1] * len(numbers), common, outputs, string_sizes(layout, each), flags, put, kind
    )


def pack_grouped_results(
    numbers: Sequence[int],
    queue_ns: Sequence[int],
    rows: Sequence[int],
    common: ResultFrame,
    outputs: Sequence[Buffer],
    sizes: Sequence[Sequence[int]],
    flags: int,
    put: Optional[PutResults] = None,
    kind: int = RESULT,
) -> List[Buffer]:
    """Do what `pack_result` does for results whose bytes are contiguous already: one buffer of `outputs` per tensor.

    rows    of each result; they matter only if the layout leaves them open
    common  what the results share, with their layout and without their outputs
    sizes   the bytes of each result, for each tensor of strings
    """
    _, input_ns, infer_ns, output_ns, batch_rows, _, layout, final = common
    assert layout is not None
    count, packed = len(numbers), pack_layout(layout)
    head = _RESULT.pack(input_ns, infer_ns, output_ns, batch_rows, count, len(sizes), len(packed))
    head += _result_numbers(count).pack(*numbers, *queue_ns, *rows)
    body: List[Buffer] = [head + PADDING * (count % 2) + packed + pack_sizes(sizes)]
    flags |= FINAL if final else 0
    # Strings are always in the frame: whoever reads them follows the lengths in them, which must not change meanwhile.
    found = put(outputs) if put is not None and not sizes else None
    if found is not None:
        return pack(RESULT, numbers[0], [*body, _RANGE.pack(*found)], flags | IN_RESULT_MEMORY)
    for buffer in outputs:
        body.append(buffer)
        gap = -len(buffer) % ALIGNMENT
        if gap:
            body.append(b"\0" * gap)
    return pack(kind, numbers[0], body, flags)


def join_results(
    numbers: Sequence[int],
    queue_ns: Sequence[int],
    rows: Sequence[int],
    times: Tuple[int, int, int, int],
    packed: bytes,
    outputs: Sequence[Buffer],
    flags: int,
) -> bytes:
    """Do what `pack_grouped_results` does for final results without strings, and return the frame as one buffer.

    times    compute input, infer and output in nanoseconds, and the rows of the batch, as in ResultFrame
    packed   the layout as `pack_layout` returns it
    outputs  with what aligns them
    """
    count = len(numbers)
    parts = [_RESULT.pack(*times, count, 0, len(packed)), _result_numbers(count).pack(*numbers, *queue_ns, *rows)]
    body = b"".join([*parts, PADDING * (count % 2), packed, *outputs])
    return HEADER.pack(len(body), VERSION, RESULT, flags | FINAL, 0, numbers[0]) + body


def unpack_results(
    body: memoryview, flags: int = FINAL, read: Optional[Callable[[int, int], memoryview]] = None
) -> ResultGroup:
    """Return the results of a RESULT frame with these flags. Raises one of MALFORMED.

    read: returns a range of the memory for results, given its offset and length; for frames that say IN_RESULT_MEMORY
    """
    gather, infer, split, batch_rows, count, strings, length = _RESULT.unpack_from(body)
    each = _result_numbers(count).unpack_from(body, _RESULT.size)
    position = _RESULT.size + 8 * (len(each) + count % 2)
    layout = unpack_layout(bytes(body[position : position + length]))
    position += length
    queue_ns, rows, sizes = each[count : 2 * count], each[2 * count :], []
    if strings:
        sizes, position = unpack_sizes(body, position, count, strings)
    if flags & IN_RESULT_MEMORY:
        if read is None or strings:
            raise WireError("results are in memory that is not shared, or that strings are not read from")
        body, position = read(*_RANGE.unpack_from(body, position)), 0
    outputs = TensorGroup(layout, rows, body, position, sizes)
    if outputs.end > len(body):
        raise WireError("a frame does not contain all bytes of its results")
    return ResultGroup(
        each[:count],
        queue_ns,
        gather,
        infer,
        split,
        batch_rows,
        outputs,
        bool(flags & FINAL),
        bool(flags & FIRST_OF_BATCH),
    )


def unpack_failure(body: memoryview) -> Tuple[str, str, int]:
    """Return the kind and the message in an ERROR frame, which UTF-8 can encode, and how many ns the model has run.

    Raises one of MALFORMED.
    """
    failure = unpack_json(body)
    kind, message, compute_ns = failure["kind"], failure["message"], failure.get("compute_ns", 0)
    if not isinstance(kind, str) or not isinstance(message, str):
        raise WireError("an error has two texts")
    if type(compute_ns) is not int or not 0 <= compute_ns < 1 << 63:
        raise WireError("the time of an error is a number of nanoseconds")
    # A model's message may contain a lone surrogate, with which no answer can be written.
    return kind, message.encode("utf-8", "replace").decode("utf-8"), compute_ns


def unpack_result(body: memoryview, flags: int = FINAL) -> List[Tuple[int, ResultFrame]]:
    """Return the (request id, result) of a RESULT frame with these flags."""
    group = unpack_results(body, flags)
    results = []
    for index, (number, queue_ns) in enumerate(zip(group.numbers, group.queue_ns)):
        outputs, layout = list(GroupedTensors(group.outputs, index)), group.outputs.layout_of(index)
        results.append((number, ResultFrame(queue_ns, *group[2:6], outputs, layout, group.final)))
    return results
