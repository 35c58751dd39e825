"""The compiled Frames reads a frame of results exactly as wire.unpack_results does, whatever a worker sends."""

import struct
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.frames import Frames
from gateway.front import fast
from runtimes import wire
from runtimes.tensors import Tensor, pack_bytes
from runtimes.wire import Frame, ResultFrame
from tests.support.environments import skip_or_fail

_NUMBERS = {"FP32": 4, "INT64": 8, "BOOL": 1, "FP16": 2}


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    module = fast.load(True)
    if module is None:
        skip_or_fail("the fast path is not compiled; `make install` compiles it")
        raise AssertionError
    return module


def read(frames: Frames, frame: Frame) -> Any:
    """Return what is in a frame of results, or the type of the error that it causes."""
    try:
        results = frames.results(frame)
        group = results.outputs
        members = [
            (
                group.layout_of(member),
                [bytes(group.data(tensor, member, member + 1)) for tensor in range(len(group.layout[2]))],
            )
            for member in range(group.count)
        ]
        times = results.compute_input_ns, results.compute_infer_ns, results.compute_output_ns
        return (
            *times, results.numbers, tuple(results.queue_ns), results.batch_rows, results.final,
            group.layout, tuple(group.rows), list(group.offsets), members,
        )  # fmt: skip
    except (struct.error, ValueError, IndexError, OverflowError, MemoryError) as error:
        return type(error)


@st.composite
def frames_of_results(draw: st.DrawFn) -> bytes:
    kinds = draw(st.lists(st.sampled_from([*_NUMBERS, "BYTES"]), min_size=1, max_size=4))
    count = draw(st.integers(1, 5))
    values = draw(st.integers(0, 5))
    results = []
    for number in range(count):
        tensors = []
        for index, kind in enumerate(kinds):
            if kind == "BYTES":
                data = pack_bytes(draw(st.lists(st.binary(max_size=9), min_size=values, max_size=values)))
            else:
                data = np.random.default_rng(number).bytes(values * _NUMBERS[kind])
            tensors.append(Tensor(f"y{index}", kind, (values,), data))
        results.append((number + draw(st.integers(0, 1 << 40)), ResultFrame(number, 1, 2, 3, count, tensors)))
    return b"".join(bytes(part) for part in wire.pack_result(results, draw(st.sampled_from([0, wire.FIRST_OF_BATCH]))))


def as_frame(raw: bytes) -> Frame:
    [frame] = wire.FrameReader().feed(raw)
    return frame


@given(frames_of_results())
def test_results_are_the_same(compiled: ModuleType, raw: bytes) -> None:
    assert isinstance(expected := read(Frames(), as_frame(raw)), tuple)
    assert read(compiled.Frames(), as_frame(raw)) == expected


@given(frames_of_results(), st.data())
def test_a_frame_with_wrong_bytes_reads_nothing_beyond_it(
    compiled: ModuleType, raw: bytes, data: st.DataObject
) -> None:
    frame = as_frame(raw)
    body = bytearray(frame.body)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(body) - 1))
        body[position] = data.draw(st.integers(0, 255))
    cut = frame._replace(body=memoryview(bytes(body))[: data.draw(st.integers(0, len(body)))])
    found, expected = read(compiled.Frames(), cut), read(Frames(), cut)
    # The Python code reads tensors that end behind the frame as if they ended with it; compiled, so does this.
    assert type(found) is type(expected)
    assert found == expected
