"""Requests as frames (wire.py): a front packs them, and a worker unpacks them."""

import struct
from functools import lru_cache
from itertools import accumulate
from typing import List, NamedTuple, Optional, Sequence, Tuple

from runtimes.layouts import (
    ALIGNMENT,
    GroupedTensors,
    TensorGroup,
    TensorLayout,
    layout_of,
    pack_layout,
    pack_tensors,
    string_sizes,
    unpack_layout,
    unpacked_layouts,
)
from runtimes.tensor_bytes import Buffer, Tensor
from runtimes.wire import IN_ARENA, INFER, WITH_CONTEXT, pack, pack_sizes, unpack_sizes

# Number of requests, number of tensors that are strings, length of the layout; then the ids, deadlines, priorities and
# rows of all requests.
_INFER = struct.Struct("<HHI")
# Formats of these numbers that are kept, one for each number of requests in a frame.
_MAX_FORMATS = 512


@lru_cache(_MAX_FORMATS)
def _request_numbers(count: int) -> struct.Struct:
    return struct.Struct("<%dQ%dd%dq%dQ" % ((count,) * 4))


class InferFrame(NamedTuple):
    """A request.

    deadline: time.monotonic() seconds, which all processes of a machine share. priority: lower values run first.
    layout: None if not computed yet. Frames with equal layouts refer to the same object.
    context: packed, as in context.py.
    """

    deadline: float
    priority: int
    signature: str
    outputs: Sequence[str]
    inputs: Sequence[Tensor]
    layout: Optional[TensorLayout] = None
    context: Buffer = b""


class RequestGroup(NamedTuple):
    """The requests in one frame.

    numbers, deadlines, priorities: of each request, its id and the rest as in InferFrame. Signature and requested
    outputs are in the layout of `inputs`. Its rows are those that the front counts in the worker's window.
    contexts: of each request, packed as in context.py; empty if the frame has none.
    """

    numbers: Tuple[int, ...]
    deadlines: Tuple[float, ...]
    priorities: Tuple[int, ...]
    inputs: TensorGroup
    contexts: Sequence[Buffer] = ()


def pack_infer(requests: Sequence[Tuple[int, InferFrame]], flags: int = 0, offsets: Sequence[int] = ()) -> List[Buffer]:
    """Return the buffers of one INFER frame with these (id, request), which must have the same layout.

    With the flag IN_ARENA there must be exactly one request; `offsets` are those of its inputs in the arena.
    """
    first = requests[0][1]
    layout = first.layout or layout_of(first.signature, first.outputs, first.inputs)
    numbers, deadlines = [number for number, _ in requests], [frame.deadline for _, frame in requests]
    priorities = [frame.priority for _, frame in requests]
    inputs = [[tensor.data for tensor in frame.inputs] for _, frame in requests]
    contexts = [frame.context for _, frame in requests]
    return pack_requests(numbers, deadlines, priorities, [1] * len(numbers), layout, inputs, flags, offsets, contexts)


def pack_requests(
    numbers: Sequence[int],
    deadlines: Sequence[float],
    priorities: Sequence[int],
    rows: Sequence[int],
    layout: TensorLayout,
    inputs: Sequence[Sequence[Buffer]],
    flags: int = 0,
    offsets: Sequence[int] = (),
    contexts: Sequence[Buffer] = (),
) -> List[Buffer]:
    """Do what `pack_infer` does, given the numbers of each request, their layout, and the bytes of their inputs.

    The rows matter only if the layout leaves them open. The frame has contexts if one of the requests has one.
    """
    count, packed, sizes = len(numbers), pack_layout(layout), string_sizes(layout, inputs)
    head = _INFER.pack(count, len(sizes), len(packed))
    head += _request_numbers(count).pack(*numbers, *deadlines, *priorities, *rows)
    head += packed + pack_sizes(sizes)
    if any(contexts):
        flags |= WITH_CONTEXT
        joined = b"".join(contexts)
        head += pack_sizes([[len(context) for context in contexts]]) + joined + bytes(-len(joined) % ALIGNMENT)
    if flags & IN_ARENA:
        return pack(INFER, numbers[0], [head + struct.pack("<%dQ" % len(offsets), *offsets)], flags)
    return pack(INFER, numbers[0], [head, *pack_tensors(layout, inputs)], flags)


def unpack_requests(body: memoryview, arena: Optional[memoryview] = None, flags: int = 0) -> RequestGroup:
    """Return the requests of an INFER frame with these flags. `arena` must be given if IN_ARENA is one of them."""
    count, strings, length = _INFER.unpack_from(body)
    each = _request_numbers(count).unpack_from(body, _INFER.size)
    position = _INFER.size + 8 * len(each)
    packed = body[position : position + length].tobytes()
    layout = unpacked_layouts.entries.get(packed) or unpack_layout(packed)
    position += length
    rows, sizes = each[3 * count :], []
    if strings:
        sizes, position = unpack_sizes(body, position, count, strings)
    contexts: Sequence[Buffer] = ()
    if flags & WITH_CONTEXT:
        (lengths,), position = unpack_sizes(body, position, count, 1)
        ends = [position + end for end in accumulate(lengths)]
        contexts = [body[end - size : end] for end, size in zip(ends, lengths)]
        position = ends[-1] + -sum(lengths) % ALIGNMENT
    if arena is None:
        inputs = TensorGroup(layout, rows, body, position, sizes)
    else:
        offsets = struct.unpack_from("<%dQ" % len(layout[2]), body, position)
        inputs = TensorGroup(layout, rows, arena, 0, sizes, offsets)
    group = each[:count], each[count : 2 * count], each[2 * count : 3 * count], inputs, contexts
    return tuple.__new__(RequestGroup, group)  # without a function in Python


def unpack_infer(body: memoryview, arena: Optional[memoryview] = None, flags: int = 0) -> List[Tuple[int, InferFrame]]:
    """Return the (id, request) of an INFER frame, as `unpack_requests` does."""
    numbers, deadlines, priorities, inputs, contexts = unpack_requests(body, arena, flags)
    requests = []
    for member, number in enumerate(numbers):
        tensors, layout = GroupedTensors(inputs, member), inputs.layout_of(member)
        context = contexts[member] if contexts else b""
        frame = InferFrame(deadlines[member], priorities[member], layout[0], layout[1], tensors, layout, context)
        requests.append((number, frame))
    return requests
