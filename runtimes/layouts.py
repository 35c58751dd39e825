"""Everything in an INFER or RESULT frame but its numbers: a layout (names, datatypes, shapes), then the tensors' bytes.

The requests of one client usually differ only in their bytes. Both sides therefore cache layouts, and one frame can
carry any number of requests, or results, with the same layout. Their bytes are grouped by tensor: first those of all
requests for the first tensor, then those for the second, and so on.
"""

import struct
from typing import Any, Iterator, List, Optional, Sequence, Tuple, cast

from runtimes.bounded_cache import BoundedCache
from runtimes.contract import DATATYPES
from runtimes.tensor_bytes import Buffer, Tensor

ALIGNMENT = 16  # bytes; every tensor starts at a multiple of it
_LAYOUT = struct.Struct("<HHH")  # length of the signature, number of requested outputs, number of tensors
_TENSOR = struct.Struct("<HBBQ")  # length of the name, datatype, rank, bytes
_CODES = {name: code for code, name in enumerate(DATATYPES)}
_DATATYPES = list(DATATYPES)
# Layouts cached in each direction. A typical client sends a handful of layouts; if more are in use, each miss costs
# one packing or parsing. With the limit below, a cache holds at most 4 MiB of packed bytes.
_MAX_LAYOUTS = 1024
# Longer packed layouts are not cached. Clients choose which outputs they request, names included, and could otherwise
# fill the cache with long ones.
_MAX_LAYOUT_BYTES = 4096

# The signature, the requested outputs, and for each tensor its name, datatype, shape and length in bytes.
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
_unpacked_layouts = BoundedCache(_MAX_LAYOUTS)  # type: BoundedCache[bytes, TensorLayout]
_row_layouts = BoundedCache(_MAX_LAYOUTS)  # type: BoundedCache[Tuple[TensorLayout, int], TensorLayout]


def layout_of(signature: str, outputs: Sequence[str], tensors: Sequence[Tensor]) -> TensorLayout:
    """Return a layout. It is not cached before it is packed, so requests that are invalid do not fill the cache."""
    layout = new_layout(signature, outputs, tensors)
    return _layouts.entries.get(layout, layout)


def new_layout(signature: str, outputs: Sequence[str], tensors: Sequence[Tensor]) -> TensorLayout:
    """Return a layout as a plain tuple."""
    described = tuple([(name, datatype, tuple(shape), len(data)) for name, datatype, shape, data in tensors])
    return signature, tuple(outputs), described


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
    layout = _unpacked_layouts.entries.get(packed)
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
        tensors.append((name, _DATATYPES[code], struct.unpack_from("<%dq" % rank, packed, position), size))
        position += 8 * rank
    layout = signature, tuple(outputs), tuple(tensors)
    if len(packed) <= _MAX_LAYOUT_BYTES:
        layout = cached(layout)
        _unpacked_layouts.put(packed, layout)
    return layout


def pack_tensors(layout: TensorLayout, each: Sequence[Sequence[Buffer]]) -> List[Buffer]:
    """Return the bytes of all requests or results, grouped by tensor. Each group is padded to the alignment.

    each  of a request or result: the bytes of its tensors, in the order of the layout
    """
    parts: List[Buffer] = []
    for index, (_, _, _, size) in enumerate(layout[2]):
        parts += [buffers[index] for buffers in each]
        gap = -size * len(each) % ALIGNMENT
        if gap:
            parts.append(b"\0" * gap)
    return parts


class TensorGroup:
    """The tensors of the requests, or results, in one frame, as they are in its body: grouped by tensor.

    body     which contains their bytes; from `position` on unless `starts` is given
    starts   of the first member's bytes, for each tensor
    count    the number of members
    memo     what a codec made of the whole group, to use it for each member; None at first
    """

    __slots__ = ("body", "count", "layout", "memo", "starts")

    def __init__(
        self, layout: TensorLayout, count: int, body: memoryview, position: int, starts: Sequence[int] = ()
    ) -> None:
        self.layout, self.count = layout, count
        self.memo: Any = None
        self.body = body
        self.starts = list(starts)
        if starts:
            return
        for _, _, _, size in layout[2]:
            self.starts.append(position)
            position += size * count + -size * count % ALIGNMENT

    def data(self, tensor: int, start: int, stop: int) -> memoryview:
        """Return the bytes of the members from `start` to `stop` for one tensor. They are contiguous."""
        size, first = self.layout[2][tensor][3], self.starts[tensor]
        return self.body[first + start * size : first + stop * size]

    def layout_of(self, member: int) -> TensorLayout:
        """Return the layout of one member."""
        return self.layout


class RowGroup(TensorGroup):
    """A group whose members have different numbers of rows. `layout` is that of a single row.

    offsets  the rows before each member, then all rows
    """

    __slots__ = ("offsets",)

    def __init__(self, layout: TensorLayout, rows: Sequence[int], body: memoryview, position: int) -> None:
        self.offsets = [0]
        for each in rows:
            self.offsets.append(self.offsets[-1] + each)
        super().__init__(layout, self.offsets[-1], body, position)
        self.count = len(rows)

    def data(self, tensor: int, start: int, stop: int) -> memoryview:
        return super().data(tensor, self.offsets[start], self.offsets[stop])

    def layout_of(self, member: int) -> TensorLayout:
        return _with_rows(self.layout, self.offsets[member + 1] - self.offsets[member])


def _with_rows(layout: TensorLayout, rows: int) -> TensorLayout:
    """Return the layout of `rows` rows, given that of one."""
    found = _row_layouts.entries.get((layout, rows))
    if found is None:
        signature, outputs, tensors = layout
        described = tuple([(name, each, (rows,) + shape[1:], rows * size) for name, each, shape, size in tensors])
        found = signature, outputs, described
        if type(layout) is not tuple:  # the others are too long to be cached
            found = cached(found)
            _row_layouts.put((layout, rows), found)
    return found


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
