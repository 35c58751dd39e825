"""Frames and tensors survive the wire, whatever the pieces they arrive in."""

import numpy as np
import pytest

from runtimes import wire
from runtimes.contract import DATATYPES
from runtimes.wire import InferFrame, ResultFrame, Tensor


def arrays() -> dict[str, np.ndarray]:
    made = {name: np.arange(6).reshape(2, 3).astype(dtype) for name, dtype in DATATYPES.items() if name != "BYTES"}
    made["BYTES"] = np.array([[b"", b"a\0b", "ü".encode()]], dtype=object)
    made["scalar"] = np.array(7, np.int64)
    made["empty"] = np.zeros((0, 3), np.float32)
    return made


def same(tensor: Tensor, array: np.ndarray) -> bool:
    back = wire.to_array(tensor)
    return back.shape == array.shape and back.dtype == array.dtype and bool((back == array).all())


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_a_request_survives_in_pieces(chunk: int) -> None:
    tensors = [wire.from_array(name, array) for name, array in arrays().items()]
    sent = InferFrame(12.5, -3, "sïg", ["a", "b"], tensors)
    stream = b"".join(bytes(part) for part in wire.pack_infer(42, sent, wire.ALONE)) * 2
    reader, frames = wire.FrameReader(), []
    for start in range(0, len(stream), chunk):
        frames += reader.feed(stream[start : start + chunk])
    assert [(frame.kind, frame.flags, frame.id) for frame in frames] == [(wire.INFER, wire.ALONE, 42)] * 2
    got = wire.unpack_infer(frames[1].body)
    assert (*got[:3], list(got.outputs)) == sent[:4]
    for tensor, (name, array) in zip(got.inputs, arrays().items(), strict=True):
        assert tensor.name == name
        assert same(tensor, array)


def test_an_answer_survives() -> None:
    tensors = [wire.from_array("y", np.eye(3, dtype=np.float32))]
    buffers = wire.pack_result(9, ResultFrame(1, 2, 3, 4, 5, tensors))
    (frame,) = wire.FrameReader().feed(b"".join(bytes(part) for part in buffers))
    got = wire.unpack_result(frame.body)
    assert got[:5] == (1, 2, 3, 4, 5)
    assert same(got.outputs[0], np.eye(3, dtype=np.float32))


def test_big_endian_and_strided_arrays_become_plain_bytes() -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4)[:, ::2]
    assert (wire.to_array(wire.from_array("x", array)) == array).all()


def test_another_version_of_the_wire_is_refused() -> None:
    header = wire.HEADER.pack(0, wire.VERSION + 1, wire.INFER, 0, 0, 1)
    with pytest.raises(wire.WireError, match="speaks version"):
        wire.FrameReader().feed(header)


@pytest.mark.parametrize(
    ("data", "count", "said"),
    [
        (b"\x01", 1, "ends inside the length of string 0"),
        (b"\x05\0\0\0abc", 1, "ends inside string 0"),
        (wire.pack_bytes([b"a", b"b"]), 3, "holds 2 strings where its shape needs 3"),
    ],
)
def test_bad_strings_are_told(data: bytes, count: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        wire.unpack_bytes(data, count)


def test_data_that_does_not_fit_its_shape_is_told() -> None:
    with pytest.raises(ValueError, match=r"has 4 bytes where FP32\[2\] needs 8"):
        wire.to_array(Tensor("x", "FP32", (2,), b"\0" * 4))
