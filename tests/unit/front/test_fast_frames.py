"""The compiled Frames reads a frame of results exactly as Python's `unpack_results` does, whatever a worker sends."""

from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.frames import Frames
from gateway.front import fast
from runtimes import result_frames, wire
from runtimes.result_frames import ResultFrame
from runtimes.tensors import Tensor, pack_bytes
from runtimes.wire import Frame
from tests.support.environments import skip_or_fail

_NUMBERS = {"FP32": 4, "INT64": 8, "BOOL": 1, "FP16": 2}


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    module = fast.load(True)
    if module is None:
        skip_or_fail("the fast path is not compiled; `make install` compiles it")
        raise AssertionError
    return module


def read(frames: Frames, raw: bytes) -> Any:
    """Return what is in a frame of results, or the type of the error that it causes."""
    try:
        [results] = frames.read(wire.FrameReader(), raw)
        assert not isinstance(results, Frame)
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
            *times, results.numbers, tuple(results.queue_ns), results.batch_rows, results.final, results.first_of_batch,
            group.layout, tuple(group.rows), list(group.offsets), members,
        )  # fmt: skip
    except wire.MALFORMED as error:
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
    return b"".join(
        bytes(part) for part in result_frames.pack_result(results, draw(st.sampled_from([0, wire.FIRST_OF_BATCH])))
    )


@given(frames_of_results())
def test_results_are_the_same(compiled: ModuleType, raw: bytes) -> None:
    assert isinstance(expected := read(Frames(), raw), tuple)
    assert read(compiled.Frames(), raw) == expected


@given(frames_of_results(), st.data())
def test_a_frame_with_wrong_bytes_reads_nothing_beyond_it(
    compiled: ModuleType, raw: bytes, data: st.DataObject
) -> None:
    body = bytearray(raw[wire.HEADER.size :])
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(body) - 1))
        body[position] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(0, len(body)))]
    cut = wire.HEADER.pack(len(body), wire.VERSION, wire.RESULT, wire.FINAL, 0, 1) + bytes(body)
    assert read(compiled.Frames(), cut) == read(Frames(), cut)


@given(st.lists(frames_of_results(), min_size=1, max_size=3), st.data())
def test_frames_in_pieces_are_the_same(compiled: ModuleType, raw: list[bytes], data: st.DataObject) -> None:
    """Frames of other kinds between them, and a stream that is cut anywhere."""
    stream = b"".join(
        frame + (wire.pack_json(wire.ERROR, {"kind": "internal"}, 7) if data.draw(st.booleans()) else b"")
        for frame in raw
    )
    pieces, found = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4))), []
    for frames in (Frames(), compiled.Frames()):
        reader, received = wire.FrameReader(), []
        for start, stop in pairwise([0, *pieces, len(stream)]):
            received += frames.read(reader, stream[start:stop])
        found.append([each.kind if isinstance(each, Frame) else tuple(each.numbers) for each in received])
    assert found[0] == found[1]
    assert len(found[0]) >= len(raw)
