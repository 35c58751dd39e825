"""CNTK's files are read correctly, and broken ones are refused with a reason."""

import struct
import time
import tracemalloc

import numpy as np
import pytest
import written as w

from runtimes.cntk_onnx.dictionary import FREE, INFERRED, Shape, read
from runtimes.cntk_onnx.protobuf import MAX_FIELDS
from runtimes.contract import LoadError


def test_every_kind_of_value() -> None:
    found = read(
        w.dictionary(
            {
                "yes": w.boolean(True),
                "minus": w.integer(-3),
                "size": w.size(1 << 40),
                "half": w.double(0.5),
                "name": w.text("grün"),
                "shape": w.shape([4, 3]),
                "open": w.shape([INFERRED, FREE]),
                "list": w.vector([w.integer(1), w.text("two")]),
                "inside": w.nested({"a": w.boolean(False)}),
                "nothing": b"",
            }
        )
    )
    assert found == {
        "yes": True,
        "minus": -3,
        "size": 1 << 40,
        "half": 0.5,
        "name": "grün",
        "shape": (4, 3),
        "open": (INFERRED, FREE),
        "list": [1, "two"],
        "inside": {"a": False},
        "nothing": None,
    }
    assert isinstance(found["shape"], Shape)


def test_what_is_zero_or_empty_is_written_by_its_type_alone() -> None:
    kinds = {1: False, 2: 0, 3: 0, 4: 0.0, 5: 0.0, 6: "", 7: (), 9: [], 10: {}}
    found = read(w.dictionary({str(kind): w.number(2, kind) for kind in kinds}))
    assert found == {str(kind): value for kind, value in kinds.items()}


def test_arrays_are_row_major_views_of_the_file() -> None:
    values = np.arange(6, dtype=np.float32)
    data = w.dictionary({"floats": w.array([3, 2], values.tobytes())})
    floats = read(data)["floats"]
    assert floats.tolist() == [[0, 1, 2], [3, 4, 5]]
    base = floats
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert base.base.obj is data if isinstance(base.base, memoryview) else base.base is not None
    assert not floats.flags.writeable


@pytest.mark.parametrize(("kind", "field", "dtype"), [(1, 4, "f4"), (2, 5, "f8"), (4, 6, "f2"), (4, 4, "f2")])
def test_datatypes(kind: int, field: int, dtype: str) -> None:
    stored = np.array([1, -2], {4: "<f4", 5: "<f8", 6: "<f2"}[field])
    found = read(w.dictionary({"a": w.array([2], stored.tobytes(), kind, field=field)}))["a"]
    assert found.dtype == np.dtype(dtype)
    assert found.tolist() == [1, -2]


def deep(levels: int) -> bytes:
    value = w.integer(1)
    for _ in range(levels):
        value = w.vector([value])
    return w.dictionary({"a": value})


HUGE = (1 << 63) - 1
BROKEN = {
    "nothing": (b"", "it is empty"),
    "not protobuf": (b"\xff\xd8\xff\xe0 a picture", "wire type"),
    "the first version's format": (b"B\0C\0N\0\0\0B\0V\0e\0r\0", "CNTK's first format"),
    "a group": (b"\x0b\x0c", "wire type 3"),
    "field 0": (b"\x00\x00", "the number 0"),
    "a number that does not end": (b"\x08" + b"\x80" * 11, "more than 10 bytes"),
    "cut off in a number": (b"\x08\x80", "ends inside a number"),
    "cut off in a length": (b"\x12\x85", "ends inside a number"),
    "a length that lies": (b"\x12" + w.varint(1 << 40) + b"abc", "1099511627776 bytes, but only 3 are left"),
    "another message": (w.message(3, b""), "a dictionary has a field 3"),
    "another value": (w.dictionary({"a": w.number(14, 1)}), "a value has a field 14"),
    "no message": (b"\x10\x05", "a number, but must be a message"),
    "no number": (w.dictionary({"a": w.message(2, b"")}), "a message, but must be a number"),
    "no text": (w.dictionary({"a": w.number(2, 6) + w.message(8, b"\xff")}), "not UTF-8"),
    "half a double": (w.dictionary({"a": w.varint(7 << 3 | 5) + b"abcd"}), "floating-point"),
    "too deep": (deep(40), "nests deeper than 32"),
    "many dimensions": (w.dictionary({"a": w.shape([1] * 100)}), "more than 64 dimensions"),
    "a negative dimension": (w.dictionary({"a": w.shape([-7])}), "beyond 63 bits"),
    "an array that says more": (w.dictionary({"a": w.array([HUGE, HUGE], b"abcd")}), "has 4 bytes"),
    "an array that says less": (w.dictionary({"a": w.array([1], b"\0" * 8)}), "an array of 1 values has 8 bytes"),
    "an array of nothing, widely": (w.dictionary({"a": w.array([0, HUGE], b"")}), "has a dimension of"),
    "an array of no size": (w.dictionary({"a": w.array([INFERRED], b"")}), "no definite size"),
    "an array twice": (
        w.dictionary({"a": w.message(13, w.number(1, 1) + w.message(4, b"") + w.message(4, b""))}),
        "twice",
    ),
    "an array in pieces": (
        w.dictionary({"a": w.message(13, w.number(1, 1) + w.message(4, w.message(1, b"abcd") * 2))}),
        "several pieces",
    ),
    "a datatype that is none": (w.dictionary({"a": w.array([1], b"abcd", kind=3)}), "a datatype 3"),
    "integers": (w.dictionary({"a": w.array([1], b"\x01", kind=5, field=7)}), "an array of integers"),
    "a sparse array": (w.dictionary({"a": w.array([1], b"abcd", storage=1)}), "a sparse array"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_says_what(name: str) -> None:
    data, message = BROKEN[name]
    with pytest.raises(LoadError, match=message) as caught:
        read(data)
    assert "\n" not in str(caught.value)


def test_a_file_cut_anywhere_is_refused() -> None:
    whole = w.dictionary({"a": w.vector([w.text("b"), w.double(1.5)]), "c": w.array([2], struct.pack("<2f", 1, 2))})
    ends = [0]  # lengths at which the file is complete
    for cut in range(1, len(whole)):
        try:
            read(whole[:cut])
        except LoadError:
            continue
        ends.append(cut)
    assert ends == [0, 2, len(w.dictionary({"a": w.vector([w.text("b"), w.double(1.5)])}))]


# Each of these is two bytes in the file and much more in memory.
MANY = {
    "values": lambda count: w.dictionary({"a": w.number(2, 9) + w.message(11, b"\x0a\x00" * count)}),
    "entries": lambda count: b"\x12\x00" * count,
    "versions": lambda count: b"\x08\x01" * count,
}


@pytest.mark.parametrize("kind", MANY)
def test_many_small_things_are_bounded(kind: str) -> None:
    data = MANY[kind](MAX_FIELDS * 2)
    began = time.process_time()
    with pytest.raises(LoadError, match="fields, which no CNTK model"):
        read(data)
    assert time.process_time() - began < 30


def test_a_hostile_length_takes_no_memory() -> None:
    data = w.dictionary({"a": w.array([1 << 40], b"abcd"), "b": w.shape([1 << 40])})
    tracemalloc.start()
    try:
        with pytest.raises(LoadError):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
