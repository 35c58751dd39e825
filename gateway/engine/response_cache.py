"""Answers that are kept, to be returned to equal requests: a limited number of bytes, the least recently used go first.

An entry is found by a hash of the request (XXH3, 128 bits), and returned only if the whole request is equal, so that a
collision, which anyone may construct, costs a miss and never yields a wrong answer.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xxhash

from runtimes.layouts import TensorLayout
from runtimes.tensor_bytes import Buffer, Tensor

# What an entry takes besides its tensors, roughly: objects of Python, names, shapes.
ENTRY_BYTES = 2048
TENSOR_BYTES = 512
# An entry may take at most this share of the cache, so that one large answer does not displace all others.
_MAX_SHARE = 1 / 4


class Question(NamedTuple):
    """What decides about an answer.

    layout  names, datatypes, shapes and sizes of the inputs, the signature and the requested outputs, in their order
    inputs  the bytes of each input
    """

    layout: TensorLayout
    inputs: Sequence[Buffer]

    def digest(self) -> bytes:
        hashed = xxhash.xxh3_128(repr(self.layout).encode())
        for data in self.inputs:
            hashed.update(len(data).to_bytes(8, "little"))
            hashed.update(data)
        return hashed.digest()

    def equals(self, other: "Question") -> bool:
        """Whether both are the same, byte by byte: not as numbers, since NaN differs from NaN, and -0.0 equals 0.0."""
        return self.layout == other.layout and all(map(_equal, self.inputs, other.inputs))


def _equal(one: Buffer, other: Buffer) -> bool:
    # Views are compared byte by byte by Python, which takes thirty times as long as numpy.
    return len(one) == len(other) and bool(np.array_equal(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8)))


class _Entry(NamedTuple):
    question: Question
    outputs: tuple[Tensor, ...]
    size: int


@dataclass(slots=True)
class Held:
    """What a cache holds of one owner. evictions: entries that have made room for others, ever."""

    size: int = 0
    entries: int = 0
    evictions: int = 0


class ResponseCache:
    """size: the bytes of all entries."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size = 0
        self._held: dict[Hashable, Held] = {}
        self._entries: OrderedDict[tuple[Hashable, bytes], _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def held(self, owner: Hashable) -> Held:
        return self._held.setdefault(owner, Held())

    def may_hold(self, size: int) -> bool:
        """Whether an entry with tensors of this many bytes may be kept."""
        return size + ENTRY_BYTES <= self.max_bytes * _MAX_SHARE

    def get(self, owner: Hashable, digest: bytes, question: Question) -> tuple[Tensor, ...] | None:
        """Return the answer to an equal question; None if there is none."""
        entry = self._entries.get((owner, digest))
        if entry is None or not entry.question.equals(question):
            return None
        self._entries.move_to_end((owner, digest))
        return entry.outputs

    def put(self, owner: Hashable, digest: bytes, question: Question, outputs: Sequence[Tensor]) -> None:
        """Keep a copy of a question and its answer, if there may be room for it."""
        tensors = [*question.inputs, *(tensor.data for tensor in outputs)]
        size = sum(map(len, tensors)) + TENSOR_BYTES * len(tensors)
        if not self.may_hold(size):
            return
        self._remove((owner, digest))
        size += ENTRY_BYTES
        while self.size + size > self.max_bytes:
            oldest = next(iter(self._entries))
            self._remove(oldest)
            self._held[oldest[0]].evictions += 1
        kept = Question(question.layout, tuple([bytes(data) for data in question.inputs]))
        answer = tuple([tensor._replace(data=bytes(tensor.data)) for tensor in outputs])
        self._entries[owner, digest] = _Entry(kept, answer, size)
        self.size += size
        held = self.held(owner)
        held.size += size
        held.entries += 1

    def drop(self, owner: Hashable) -> None:
        """Remove all entries of an owner."""
        for key in [key for key in self._entries if key[0] == owner]:
            self._remove(key)

    def _remove(self, key: tuple[Hashable, bytes]) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= entry.size
            held = self._held[key[0]]
            held.size -= entry.size
            held.entries -= 1

    def forget(self, owner: Hashable) -> None:
        """Remove all entries of an owner that is gone, and what is counted of it."""
        self.drop(owner)
        self._held.pop(owner, None)
