"""Everything in an INFER or RESULT frame but its numbers: a layout (names, datatypes, shapes), then the tensors' bytes.

The requests of one client usually differ only in their bytes, in their rows and in the lengths of their strings. The
last two are not in the layout: each request, or result, states its own. Both sides therefore cache layouts, and one
frame can carry any number of requests, or results, with the same layout. Their bytes are grouped by tensor: first those
of all requests for the first tensor, then those for the second, and so on.
"""

import struct
from itertools import accumulate
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, cast

from runtimes.bounded_cache import BoundedCache
from runtimes.contract import DATATYPES
from runtimes.tensor_bytes import Buffer, Tensor

ALIGNMENT = 16  # bytes; every tensor starts at a multiple of it
_LAYOUT = struct.Struct("<HHH")  # length of the signature, number of requested outputs, number of tensors
_TENSOR = struct.Struct("<HBBq")  # length of the name, datatype, rank, bytes
_CODES = {name: code for code, name in enumerate(DATATYPES)}
_DATATYPES = list(DATATYPES)
# Layouts cached in each direction. A typical client sends a handful of layouts; if more are in use, each miss costs
# one packing or parsing. With the limit below, a cache holds at most 4 MiB of packed bytes.
_MAX_LAYOUTS = 1024
# Longer packed layouts are not cached. Clients choose which outputs they request, names included, and could otherwise
# fill the cache with long ones.
_MAX_LAYOUT_BYTES = 4096

# The signature, the requested outputs, and for each tensor its name, datatype, shape and length in bytes.
#
# A dimension of -1 is the number of rows, which each request or result states; the length is then that of one row. If
# one tensor has such a dimension, all have. The length of strings is always -1: each request or result states it.
TensorLayout = Tuple[str, Tuple[str, ...], Tuple[Tuple[str, str, Tuple[int, ...], int], ...]]


class _CachedLayout(tuple):
    """A TensorLayout that compares and hashes by identity, since caches are asked for one several times per request.

    There is one object for equal layouts, unless it was evicted meanwhile; then others only miss a cache.
    """

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__
    __ne__ = object.__ne__


_layouts = BoundedCache(_MAX_LAYOUTS)  # type: BoundedCache[TensorLayout, TensorLayout]
_packed_layouts = BoundedCache(_MAX_LAYOUTS)  # type: BoundedCache[TensorLayout, bytes]
unpacked_layouts = BoundedCache(_MAX_LAYOUTS)  # type: BoundedCache[bytes, TensorLayout]
_row_layouts = BoundedCache(_MAX_LAYOUTS)  # type: BoundedCache[Tuple[TensorLayout, int], TensorLayout]


def layout_of(signature: str, outputs: Sequence[str], tensors: Sequence[Tensor]) -> TensorLayout:
    """Return a layout. It is not cached before it is packed, so requests that are invalid do not fill the cache."""
    return known_layout(new_layout(signature, outputs, tensors))


def known_layout(layout: TensorLayout) -> TensorLayout:
    """Return the cached object for layouts equal to this one; without one, the layout itself."""
    return _layouts.entries.get(layout, layout)


def new_layout(signature: str, outputs: Sequence[str], tensors: Sequence[Tensor]) -> TensorLayout:
    """Return a layout as a plain tuple. Its rows are as in the shapes of the tensors; `by_row` leaves them open."""
    described = tuple(
        [
            (name, datatype, tuple(shape), -1 if datatype == "BYTES" else len(data))
            for name, datatype, shape, data in tensors
        ]
    )
    return signature, tuple(outputs), described


def by_row(layout: TensorLayout, dim: int) -> TensorLayout:
    """Return the layout with the number of rows, in dimension `dim`, left open.

    It is returned as it is if it has no rows, or not the same number in all tensors.
    """
    signature, outputs, tensors = layout
    counts = {shape[dim] if len(shape) > dim else 0 for _, _, shape, _ in tensors}
    rows = counts.pop() if len(counts) == 1 else 0
    if rows < 1:
        return layout
    described = [
        (name, datatype, shape[:dim] + (-1,) + shape[dim + 1 :], size if size < 0 else size // rows)
        for name, datatype, shape, size in tensors
    ]
    return signature, outputs, tuple(described)


def is_by_row(layout: TensorLayout) -> bool:
    """Return whether the number of rows is left open."""
    return bool(layout[2]) and -1 in layout[2][0][2]


def by_identity(layout: TensorLayout) -> TensorLayout:
    """Return a copy that is looked up by its identity, for whoever keeps one and asks for it often."""
    return cast(TensorLayout, _CachedLayout(layout))


def cached(layout: TensorLayout) -> TensorLayout:
    """Return the one object for layouts equal to this one. Call it for layouts of valid requests only."""
    found = _layouts.entries.get(layout)
    if found is None:
        found = by_identity(layout)
        _layouts.put(layout, found)
    return found


def pack_layout(layout: TensorLayout) -> bytes:
    """Return the layout as bytes, padded to the alignment of the tensors that follow."""
    packed = _packed_layouts.entries.get(layout)
    if packed is not None:
        return packed
    signature, outputs, tensors = layout[0].encode(), [name.encode() for name in layout[1]], layout[2]
    parts = [_LAYOUT.pack(len(signature), len(outputs), len(tensors)), signature]
    for output in outputs:
        parts += [struct.pack("<H", len(output)), output]
    for name, datatype, shape, size in tensors:
        raw = name.encode()
        parts += [_TENSOR.pack(len(raw), _CODES[datatype], len(shape), size), raw]
        parts.append(struct.pack("<%dq" % len(shape), *shape))
    packed = b"".join(parts)
    packed += b"\0" * (-len(packed) % ALIGNMENT)
    if len(packed) <= _MAX_LAYOUT_BYTES:
        _packed_layouts.put(cached(layout) if type(layout) is tuple else layout, packed)
    return packed


def unpack_layout(packed: bytes) -> TensorLayout:
    layout = unpacked_layouts.entries.get(packed)
    if layout is not None:
        return layout
    signature_length, output_count, count = _LAYOUT.unpack_from(packed)
    position = _LAYOUT.size + signature_length
    signature = packed[_LAYOUT.size : position].decode()
    outputs = []
    for _ in range(output_count):
        (length,) = struct.unpack_from("<H", packed, position)
        outputs.append(packed[position + 2 : position + 2 + length].decode())
        position += 2 + length
    tensors = []
    for _ in range(count):
        length, code, rank, size = _TENSOR.unpack_from(packed, position)
        position += _TENSOR.size
        name = packed[position : position + length].decode()
        position += length
        shape = struct.unpack_from("<%dq" % rank, packed, position)
        _check_size(name, _DATATYPES[code], shape, size)
        tensors.append((name, _DATATYPES[code], shape, size))
        position += 8 * rank
    if len({-1 in shape for _, _, shape, _ in tensors}) > 1:
        # The first one says whether the rows are left open. The bytes of the others would not fit their shapes.
        raise ValueError("some tensors leave the number of rows open, and others do not")
    layout = signature, tuple(outputs), tuple(tensors)
    if len(packed) <= _MAX_LAYOUT_BYTES:
        layout = cached(layout)
        unpacked_layouts.put(packed, layout)
    return layout


def _check_size(name: str, datatype: str, shape: Tuple[int, ...], size: int) -> None:
    """Raises ValueError if a tensor of this shape does not have this size. -1 counts as one row."""
    expected = 1
    for dimension in shape:
        expected *= abs(dimension)
    if datatype == "BYTES":
        valid = size == -1
    else:
        valid = size == expected * DATATYPES[datatype].itemsize
    if not valid or min(shape, default=0) < -1 or shape.count(-1) > 1:
        raise ValueError("tensor %r of shape %r cannot have %d bytes" % (name, shape, size))


def string_sizes(layout: TensorLayout, each: Sequence[Sequence[Buffer]]) -> List[List[int]]:
    """Return the bytes of each request or result, for each tensor of strings. `each` is as in `pack_tensors`."""
    return [[len(buffers[tensor]) for buffers in each] for tensor, (_, _, _, size) in enumerate(layout[2]) if size < 0]


def pack_tensors(layout: TensorLayout, each: Sequence[Sequence[Buffer]]) -> List[Buffer]:
    """Return the bytes of all requests or results, grouped by tensor. Each group is padded to the alignment.

    each  of a request or result: the bytes of its tensors, in the order of the layout
    """
    parts: List[Buffer] = []
    for tensor in range(len(layout[2])):
        group = [buffers[tensor] for buffers in each]
        parts += group
        gap = -sum(map(len, group)) % ALIGNMENT
        if gap:
            parts.append(b"\0" * gap)
    return parts


class TensorGroup:
    """The tensors of the requests, or results, in one frame, as they are in its body: grouped by tensor.

    rows     of each member, if the layout leaves them open
    count    the number of members
    by_row   whether the layout leaves the rows open
    offsets  the rows before each member, then all rows. If the layout does not leave them open, a member counts as one
    bounds   for each tensor of strings, the bytes before each member, then all bytes
    body     which contains the bytes; from `position` on unless `starts` is given
    starts   of the first member's bytes, for each tensor
    end      of the last member's bytes, unless `starts` is given
    memo     what a codec made of the whole group, to use it for each member; None at first
    """

    __slots__ = ("body", "bounds", "by_row", "count", "end", "layout", "memo", "offsets", "rows", "starts")

    def __init__(
        self,
        layout: TensorLayout,
        rows: Sequence[int],
        body: memoryview,
        position: int,
        sizes: Sequence[Sequence[int]] = (),
        starts: Sequence[int] = (),
    ) -> None:
        """`sizes`: the bytes of each member, for each tensor of strings."""
        self.layout, self.rows, self.body = layout, rows, body
        self.count = len(rows)
        self.memo: Any = None
        self.by_row = is_by_row(layout)
        self.offsets: Sequence[int] = [0, *accumulate(rows)] if self.by_row else range(self.count + 1)
        total = self.offsets[-1]
        bounds: Dict[int, List[int]] = {}
        self.bounds = bounds
        self.starts: List[int] = []
        self.end = position
        for tensor, (_, _, _, size) in enumerate(layout[2]):
            if size < 0:
                bounds[tensor] = [0, *accumulate(sizes[len(bounds)])]
                size = bounds[tensor][-1]
            else:
                size *= total
            self.starts.append(position)
            self.end = position + size
            position = self.end + -size % ALIGNMENT
        if starts:
            self.starts = list(starts)

    def data(self, tensor: int, start: int, stop: int) -> memoryview:
        """Return the bytes of the members from `start` to `stop` for one tensor. They are contiguous."""
        size, first = self.layout[2][tensor][3], self.starts[tensor]
        if size < 0:
            bounds = self.bounds[tensor]
            return self.body[first + bounds[start] : first + bounds[stop]]
        offsets = self.offsets
        return self.body[first + offsets[start] * size : first + offsets[stop] * size]

    def layout_of(self, member: int) -> TensorLayout:
        """Return the layout of one member, with its rows."""
        return layout_with_rows(self.layout, self.rows[member]) if self.by_row else self.layout


def layout_with_rows(layout: TensorLayout, rows: int) -> TensorLayout:
    """Return the layout of `rows` rows, given one that leaves them open."""
    found = _row_layouts.entries.get((layout, rows))
    if found is None:
        signature, outputs, tensors = layout
        described = [
            (name, datatype, with_rows(shape, rows), size if size < 0 else rows * size)
            for name, datatype, shape, size in tensors
        ]
        found = signature, outputs, tuple(described)
        if type(layout) is not tuple:  # the others are too long to be cached
            found = cached(found)
            _row_layouts.put((layout, rows), found)
    return found


def with_rows(shape: Tuple[int, ...], rows: int) -> Tuple[int, ...]:
    """Return the shape with this number of rows if it leaves them open."""
    if shape[:1] == (-1,):
        return (rows,) + shape[1:]
    return tuple([rows if size == -1 else size for size in shape])


class GroupedTensors(Sequence[Tensor]):
    """The tensors of one member of a group, as views of its frame that are made when they are needed.

    A batch of small requests never needs them: its inputs are the bytes of whole groups (worker/rows.py). Nor does a
    codec that writes the answers of a group together.
    """

    __slots__ = ("_made", "group", "member")

    def __init__(self, group: TensorGroup, member: int) -> None:
        self.group, self.member = group, member
        self._made: Optional[List[Tensor]] = None

    def __len__(self) -> int:
        return len(self.group.layout[2])

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._tensors())

    def __getitem__(self, tensor: Any) -> Any:
        return self._tensors()[tensor]

    def _tensors(self) -> List[Tensor]:
        if self._made is None:
            group, start, stop = self.group, self.member, self.member + 1
            self._made = [
                Tensor(name, datatype, shape, group.data(tensor, start, stop))
                for tensor, (name, datatype, shape, _) in enumerate(group.layout_of(start)[2])
            ]
        return self._made
