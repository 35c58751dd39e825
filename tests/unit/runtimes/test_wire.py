"""Frames and tensors arrive unchanged, in whatever chunks they are received."""

from collections.abc import Sequence

import numpy as np
import pytest

from runtimes import layouts, request_frames, result_frames, wire
from runtimes.context import Context, pack_context, unpack_context
from runtimes.contract import DATATYPES, SequenceControl
from runtimes.request_frames import InferFrame
from runtimes.result_frames import ResultFrame
from runtimes.tensors import Buffer, Tensor, from_array, pack_bytes, to_array, unpack_bytes


def arrays() -> dict[str, np.ndarray]:
    numbers = [known for known in DATATYPES.values() if known.kind != "bytes"]
    made = {known.name: np.arange(6).reshape(2, 3).astype(known.dtype) for known in numbers}
    made["BYTES"] = np.array([[b"", b"a\0b", "ü".encode()]], dtype=object)
    made["scalar"] = np.array(7, np.int64)
    made["empty"] = np.zeros((0, 3), np.float32)
    return made


def same(tensor: Tensor, array: np.ndarray) -> bool:
    back = to_array(tensor)
    return back.shape == array.shape and back.dtype == array.dtype and bool((back == array).all())


def together(buffers: Sequence[Buffer]) -> bytes:
    return b"".join(bytes(part) for part in buffers)


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_requests_survive_in_pieces(chunk: int, count: int) -> None:
    tensors = [from_array(name, array) for name, array in arrays().items()]
    sent = [(40 + index, InferFrame(12.5 + index, -index, "sïg", ["a", "b"], tensors)) for index in range(count)]
    stream = together(request_frames.pack_infer(sent, wire.ISOLATED)) * 2
    reader, frames = wire.FrameReader(), []
    for start in range(0, len(stream), chunk):
        frames += reader.feed(stream[start : start + chunk])
    assert [(frame.kind, frame.flags, frame.id) for frame in frames] == [(wire.INFER, wire.ISOLATED, 40)] * 2
    found = request_frames.unpack_infer(frames[1].body)
    for (number, got), (asked, frame) in zip(found, sent, strict=True):
        assert (number, *got[:3], list(got.outputs)) == (asked, *frame[:4])
        for tensor, (name, array) in zip(got.inputs, arrays().items(), strict=True):
            assert tensor.name == name
            assert same(tensor, array)


@pytest.mark.parametrize("in_arena", [False, True])
def test_each_request_of_a_frame_keeps_its_context(in_arena: bool) -> None:
    """Also if its tensors are in the arena, and if only some of the requests have a context."""
    sequence = SequenceControl("sü", True, False)
    contexts = [pack_context("α", {"n": 1, "t": "x"}, sequence), b"", pack_context("", {}, SequenceControl(2**64 - 1))]
    tensors = [from_array("x", np.arange(3.0)), from_array("s", np.array([b"abc"], object))]
    sent = [
        (number, InferFrame(1.0, 0, "s", (), tensors, context=context))
        for number, context in enumerate(contexts[:1] if in_arena else contexts)
    ]
    arena, flags, offsets = None, 0, list[int]()
    if in_arena:
        arena, flags, offsets = memoryview(bytes(tensors[0].data) + bytes(tensors[1].data)), wire.IN_ARENA, [0, 24]
    (frame,) = wire.FrameReader().feed(together(request_frames.pack_infer(sent, flags, offsets)))
    assert frame.flags == flags | wire.WITH_CONTEXT
    found = [request for _, request in request_frames.unpack_infer(frame.body, arena, frame.flags)]
    assert [unpack_context(each.context) for each in found] == [
        Context("α", {"n": 1, "t": "x"}, sequence),
        Context(),
        Context(sequence=SequenceControl(2**64 - 1)),
    ][: len(sent)]
    for each in found:
        assert to_array(each.inputs[0]).tolist() == [0.0, 1.0, 2.0]
        assert to_array(each.inputs[1]).tolist() == [b"abc"]


def test_requests_without_a_context_take_no_bytes_for_it() -> None:
    frame = InferFrame(1.0, 0, "s", (), [from_array("x", np.arange(3.0))])
    (read,) = wire.FrameReader().feed(together(request_frames.pack_infer([(1, frame), (2, frame)])))
    assert read.flags == 0
    assert request_frames.unpack_requests(read.body, None, read.flags).contexts == ()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_tensor_starts_where_frameworks_want_it(count: int) -> None:
    tensors = [from_array("a", np.zeros(3, np.int8)), from_array("b", np.zeros(2, np.float64))]
    packed = [
        together(
            request_frames.pack_infer([(index, InferFrame(1.0, 0, "s", ["o"], tensors)) for index in range(count)])
        ),
        together(result_frames.pack_result([(index, ResultFrame(1, 2, 3, 4, 5, tensors)) for index in range(count)])),
    ]
    for stream, unpack in zip(packed, (request_frames.unpack_infer, result_frames.unpack_result), strict=True):
        (frame,) = wire.FrameReader().feed(stream)
        (_, first), *_ = unpack(frame.body)
        whole = np.frombuffer(stream, np.uint8).ctypes.data
        for tensor in first[4] if unpack is request_frames.unpack_infer else first[5]:
            assert (np.frombuffer(tensor.data, np.uint8).ctypes.data - whole) % 16 == 0


def test_answers_survive() -> None:
    each = [(9 + index, np.full((2, 3), index, np.float32)) for index in range(4)]
    sent = [(number, ResultFrame(number, 2, 3, 4, 5, [from_array("y", array)])) for number, array in each]
    (frame,) = wire.FrameReader().feed(together(result_frames.pack_result(sent, wire.FIRST_OF_BATCH)))
    for (number, got), (asked, array) in zip(result_frames.unpack_result(frame.body), each, strict=True):
        assert (number, *got[:5]) == (asked, asked, 2, 3, 4, 5)
        assert same(got.outputs[0], array)


@pytest.mark.parametrize("counts", [(1, 3), (2, 0, 1, 5, 1)])
def test_answers_with_different_numbers_of_rows_survive_in_one_frame(counts: tuple[int, ...]) -> None:
    total = sum(counts)
    outputs = {"a": np.arange(3 * total, dtype=np.int8).reshape(total, 3), "b": np.arange(total, dtype=np.float64)}
    row = layouts.by_row(layouts.layout_of("", (), [from_array(name, array[:1]) for name, array in outputs.items()]), 0)
    common = ResultFrame(0, 2, 3, 4, total, [], row)
    numbers, data = range(7, 7 + len(counts)), [from_array(name, array).data for name, array in outputs.items()]
    stream = together(result_frames.pack_grouped_results(numbers, [5] * len(counts), counts, common, data, (), 0))
    for _ in range(2):  # the second time, layouts are cached
        (frame,) = wire.FrameReader().feed(stream)
        assert frame.flags == wire.FINAL
        results, begin = result_frames.unpack_result(frame.body, frame.flags), 0
        for count, number, (found, result) in zip(counts, numbers, results, strict=True):
            assert (found, *result[:5]) == (number, 5, 2, 3, 4, total)
            assert result.layout == layouts.layout_of("", (), result.outputs)
            for tensor, (name, array) in zip(result.outputs, outputs.items(), strict=True):
                assert tensor.name == name
                assert same(tensor, array[begin : begin + count])
            begin += count
        whole = np.frombuffer(stream, np.uint8).ctypes.data
        for tensor in results[0][1].outputs:
            assert (np.frombuffer(tensor.data, np.uint8).ctypes.data - whole) % 16 == 0


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("in_arena", [False, True])
def test_requests_with_different_rows_and_strings_survive_in_one_frame(in_arena: bool, dim: int) -> None:
    each = []
    for rows in (2,) if in_arena else (2, 5, 1):
        strings = np.array([[b"s" * (rows * row), b""] for row in range(rows)], object)
        arrays = {"a": np.full((rows, 3), rows, np.int8), "s": strings, "b": np.full((rows, 1), rows, np.float64)}
        each.append({name: array.T if dim else array for name, array in arrays.items()})
    tensors = [[from_array(name, array) for name, array in arrays.items()] for arrays in each]
    layout = layouts.cached(layouts.by_row(layouts.new_layout("s", ["y"], tensors[0]), dim))
    buffers = [[tensor.data for tensor in request] for request in tensors]
    numbers, rows_of_each = range(7, 7 + len(each)), [arrays["a"].shape[dim] for arrays in each]
    arena, offsets, flags = None, [32, 256, 512], wire.IN_ARENA if in_arena else 0
    if in_arena:
        memory = bytearray(1024)
        for offset, data in zip(offsets, buffers[0], strict=True):
            memory[offset : offset + len(data)] = data
        arena = memoryview(memory)
    packed = request_frames.pack_requests(
        numbers, [1.5] * len(each), [0] * len(each), rows_of_each, layout, buffers, flags, offsets
    )
    for _ in range(2):  # the second time, layouts are cached
        (frame,) = wire.FrameReader().feed(together(packed))
        for (number, got), asked, arrays in zip(
            request_frames.unpack_infer(frame.body, arena), numbers, each, strict=True
        ):
            assert (number, *got[:4]) == (asked, 1.5, 0, "s", ("y",))
            assert got.layout == layouts.new_layout("s", ["y"], got.inputs)
            for tensor, (name, array) in zip(got.inputs, arrays.items(), strict=True):
                assert tensor.name == name
                assert same(tensor, array)


def test_a_layout_keeps_rows_that_differ_or_are_none() -> None:
    def layout(*shapes: tuple[int, ...]) -> layouts.TensorLayout:
        return layouts.new_layout("s", (), [from_array("x", np.zeros(shape, np.int16)) for shape in shapes])

    for shapes in ((), ((2, 3), (3, 3)), ((0, 3),), ((2, 3), ())):
        assert layouts.by_row(layout(*shapes), 0) == layout(*shapes)
    assert layouts.by_row(layout((2, 3), (2,)), 0)[2] == (("x", "INT16", (-1, 3), 6), ("x", "INT16", (-1,), 2))
    assert layouts.by_row(layout((2, 3), (4, 3)), 1)[2] == (("x", "INT16", (2, -1), 4), ("x", "INT16", (4, -1), 8))


def test_whether_an_answer_is_final_is_a_flag_and_takes_no_bytes() -> None:
    result = ResultFrame(1, 2, 3, 4, 5, [from_array("y", np.ones(3, np.float32))])
    last, early = (together(result_frames.pack_result([(7, result._replace(final=final))])) for final in (True, False))
    assert len(last) == len(early)
    for stream, final in ((last, True), (early, False)):
        (frame,) = wire.FrameReader().feed(stream)
        ((_, got),) = result_frames.unpack_result(frame.body, frame.flags)
        assert got.final is final


def test_big_endian_and_strided_arrays_become_plain_bytes() -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4)[:, ::2]
    assert (to_array(from_array("x", array)) == array).all()


def test_another_version_of_the_wire_is_refused() -> None:
    header = wire.HEADER.pack(0, wire.VERSION + 1, wire.INFER, 0, 0, 1)
    with pytest.raises(wire.WireError, match="speaks version"):
        wire.FrameReader().feed(header)


@pytest.mark.parametrize(
    ("data", "count", "said"),
    [
        (b"\x01", 1, "ends inside the length of string 0"),
        (b"\x05\0\0\0abc", 1, "ends inside string 0"),
        (pack_bytes([b"a", b"b"]), 3, "holds 2 strings, but its shape needs 3"),
    ],
)
def test_bad_strings_are_refused(data: bytes, count: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        unpack_bytes(data, count)


def test_data_that_does_not_fit_its_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has 4 bytes, but FP32\[2\] needs 8"):
        to_array(Tensor("x", "FP32", (2,), b"\0" * 4))


@pytest.mark.parametrize("order", [1, -1])
def test_rows_are_left_open_in_all_tensors_or_in_none(order: int) -> None:
    """A front would take as many rows of the other tensor as of the first, and pass on bytes that exceed its shape."""
    tensors = (("open", "FP32", (-1, 2), 8), ("fixed", "FP32", (1, 2), 8))[::order]
    with pytest.raises(wire.MALFORMED):
        layouts.unpack_layout(layouts.pack_layout(("", (), tensors)))


def test_forms_that_clients_made_long_are_not_remembered() -> None:
    outputs = ["y" * 1000 + str(number) for number in range(10)]
    before = len(layouts._packed_layouts), len(layouts.unpacked_layouts)
    frame = request_frames.InferFrame(1.0, 0, "", outputs, [from_array("x", np.ones(1, np.float32))])
    (read,) = wire.FrameReader().feed(together(request_frames.pack_infer([(1, frame)])))
    assert request_frames.unpack_infer(read.body)[0][1].outputs == tuple(outputs)
    assert (len(layouts._packed_layouts), len(layouts.unpacked_layouts)) == before


def test_only_layouts_that_are_sent_are_cached() -> None:
    tensors = [Tensor("never seen", "FP32", (1, 2), b"\0" * 8)]
    before = len(layouts._layouts)
    for _ in range(2):
        assert type(layouts.layout_of("s", ["y"], tensors)) is tuple
    assert len(layouts._layouts) == before
    request_frames.pack_infer([(1, InferFrame(1.0, 0, "s", ["y"], tensors))])
    assert layouts.layout_of("s", ["y"], tensors) is layouts.layout_of("s", ["y"], tensors)
    assert len(layouts._layouts) == before + 1


def test_layouts_too_long_for_the_cache_are_equal() -> None:
    """Otherwise each request to a model with hundreds of inputs would add a new entry to other caches."""
    tensors = [Tensor(f"feature {number}", "FP32", (1,), b"\0" * 4) for number in range(300)]
    packed = together(request_frames.pack_infer([(1, InferFrame(1.0, 0, "s", (), tensors))]))
    found = {layouts.layout_of("s", (), tensors) for _ in range(2)}
    found |= {request_frames.unpack_infer(wire.FrameReader().feed(packed)[0].body)[0][1].layout for _ in range(2)}
    assert len(found) == 1


@pytest.mark.parametrize("length", range(8))
def test_tensors_are_aligned_in_whatever_company_they_arrive(length: int) -> None:
    arena = wire.pack_json(wire.ARENA, {"size": 10**length})
    requests = [(number, InferFrame(1.0, 0, "s", (), [from_array("x", np.ones(3))])) for number in range(2)]
    first, second = wire.FrameReader().feed(arena + together(request_frames.pack_infer(requests)))
    assert wire.unpack_json(first.body) == {"size": 10**length}
    for _, request in request_frames.unpack_infer(second.body):
        assert np.frombuffer(request.inputs[0].data, np.float64).flags.aligned


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_that_are_contiguous_already_make_the_same_frame(count: int) -> None:
    whole = [from_array("a", np.arange(3 * count, dtype=np.int8).reshape(count, 3)), from_array("b", np.ones(count))]
    rows = [(9 + row, [from_array(t.name, to_array(t)[row : row + 1]) for t in whole]) for row in range(count)]
    sent = [(number, ResultFrame(number, 2, 3, 4, 5, tensors)) for number, tensors in rows]
    common = sent[0][1]._replace(layout=layouts.layout_of("", (), sent[0][1].outputs))
    numbers, data = [number for number, _ in sent], [tensor.data for tensor in whole]
    grouped = result_frames.pack_grouped_results(numbers, numbers, [1] * count, common, data, (), wire.FIRST_OF_BATCH)
    assert together(grouped) == together(result_frames.pack_result(sent, wire.FIRST_OF_BATCH))


def test_grouped_tensors_are_a_sequence() -> None:
    tensors = [from_array("a", np.zeros(3, np.int8)), from_array("b", np.ones(2))]
    (frame,) = wire.FrameReader().feed(
        together(request_frames.pack_infer([(1, InferFrame(1.0, 0, "s", [], tensors))] * 2))
    )
    for _, request in request_frames.unpack_infer(frame.body):
        assert [each.name for each in request.inputs] == [request.inputs[0].name, request.inputs[-1].name] == ["a", "b"]
        assert bytes(request.inputs[-1].data) == bytes(tensors[1].data)
        assert [each.name for each in request.inputs[1:]] == ["b"]
        with pytest.raises(IndexError):
            request.inputs[2]


def test_the_message_of_a_failure_can_be_encoded() -> None:
    (frame,) = wire.FrameReader().feed(bytes(wire.pack_json(wire.ERROR, {"kind": "invalid", "message": "a\ud800é"}, 1)))
    kind, message, compute_ns = result_frames.unpack_failure(frame.body)
    assert (kind, message.encode(), compute_ns) == ("invalid", "a?é".encode(), 0)


@pytest.mark.parametrize("compute_ns", [-1, 1 << 63, 1.5, True, "1", None])
def test_a_failure_takes_a_possible_time(compute_ns: object) -> None:
    failure = {"kind": "invalid", "message": "no", "compute_ns": 5}
    (frame,) = wire.FrameReader().feed(bytes(wire.pack_json(wire.ERROR, failure, 1)))
    assert result_frames.unpack_failure(frame.body) == ("invalid", "no", 5)
    (frame,) = wire.FrameReader().feed(bytes(wire.pack_json(wire.ERROR, {**failure, "compute_ns": compute_ns}, 1)))
    with pytest.raises(wire.MALFORMED):
        result_frames.unpack_failure(frame.body)
