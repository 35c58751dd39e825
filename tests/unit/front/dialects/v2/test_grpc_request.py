"""Requests read without protobuf's copies: for any bytes, the result is that of protobuf."""

import itertools
import random
from collections.abc import Iterator

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from gateway.engine.fake import FakeEngine
from gateway.errors import InvalidRequest
from gateway.front.dialects.v2 import grpc_message, grpc_request
from gateway.front.dialects.v2.grpc_message import split_request, split_usual
from gateway.front.dialects.v2.grpc_request import RequestReader
from gateway.generated import open_inference_pb2 as pb
from tests.support.front_server import answer, models
from tests.support.v2_calls import Call, Value, as_message

ROW = Value("x", "FP32", (1, 3), [1.0, 2.0, 3.0])
GOOD = as_message(Call("doubler", (ROW,), version="1", id="é", outputs=("y",)), raw=True).SerializeToString()
HEAD = b"\x0a\x01m"


def parse(raw: bytes) -> pb.ModelInferRequest | None:
    try:
        return pb.ModelInferRequest.FromString(raw)
    except DecodeError:
        return None


def agrees_in_usual_encoding(raw: bytes) -> bool:
    """Like `agrees`, for split_usual."""
    parts = split_usual(raw)
    if parts is None:
        return False
    model, version, request_id, parameters, described, contents = parts
    whole, rest = parse(raw), parse(parameters + described)
    assert (whole is None) == (rest is None), raw
    if whole is not None and rest is not None:
        assert rest == pb.ModelInferRequest(parameters=rest.parameters, inputs=rest.inputs, outputs=rest.outputs)
        rest.model_name, rest.model_version, rest.id = model, version, request_id
        rest.raw_input_contents.extend(bytes(data) for data in contents)
        assert rest == whole, raw
        assert parse(parameters) == pb.ModelInferRequest(parameters=whole.parameters)
    return True


def agrees(raw: bytes) -> bool:
    """Return whether the message was split. Fails if the parts differ from the whole."""
    split = split_request(raw)
    if split is None:
        return False
    whole, head = parse(raw), parse(split.head)
    assert (whole is None) == (head is None), raw
    if whole is not None and head is not None:
        assert not head.id
        assert not head.raw_input_contents
        head.id = split.id
        head.raw_input_contents.extend(bytes(data) for data in split.contents)
        assert head == whole, raw
    return True


@pytest.mark.parametrize(
    ("raw", "is_split"),
    [
        (GOOD, True),
        (b"\x3a\x00", True),
        (HEAD + b"\x3a\x02ab\x3a\x00\x3a\x01c", True),
        (b"\x3a\x02ab" + HEAD + b"\x3a\x01c", True),
        (HEAD + b"\x3a\x01x\x1a\x01b", True),
        (HEAD + b"\x1a\x01a\x3a\x01x\x1a\x01b", False),
        (HEAD + b"\x12\x01\xff\x3a\x01x", True),
        (HEAD + b"\x82\x01\x00\x3a\x01x", False),
        (HEAD + b"\x3a\x81\x80\x80\x80\x00x", True),
        (HEAD + b"\x3a\x81\x80\x80\x80\x80\x00x", False),
        (HEAD + b"\x3a\x81\x80\x80\x80\x10x", False),
        (HEAD + b"\xba\x00\x01x", False),
        (HEAD + b"\x1a\x01\xff\x3a\x01x", False),
        (HEAD + b"\x38\x01\x3a\x01x", False),
        (HEAD + b"\x7a\x01u\x3a\x01x", True),
        (HEAD + b"\x3b\x3c\x3a\x01x", False),
        (HEAD + b"\x02\x01x\x3a\x01x", False),
        (HEAD + b"\x3a\x02x", False),
        (HEAD + b"\x3a\xff", False),
        (HEAD + b"\x3a", False),
        (HEAD + b"\x3a\x01x\x0a", False),
        (HEAD, False),
        (b"", False),
        (b"\x3a\x00" * 2000, False),
    ],
)
def test_unusual_encodings_are_left_to_protobuf(raw: bytes, is_split: bool) -> None:
    assert agrees(raw) == is_split


INPUT = b"\x2a\x02\x0a\x00"


@pytest.mark.parametrize(
    ("raw", "is_usual"),
    [
        (GOOD, True),
        (INPUT + b"\x3a\x00", True),
        (HEAD + b"\x12\x011\x1a\x01i\x22\x00" + INPUT * 2 + b"\x32\x00\x3a\x02ab\x3a\x00", True),
        (HEAD + b"\x22\x00\x22\x03\x0a\x01a" + INPUT + b"\x3a\x00", True),
        (b"\x0a\x81\x01" + b"m" * 129 + INPUT + b"\x3a\x00", True),
        (INPUT + b"\x3a\x81\x80\x80\x80\x00x", True),
        (b"\x2a\x01\xff\x3a\x00", True),
        (HEAD + HEAD + INPUT + b"\x3a\x00", False),
        (b"\x0a\x01\xff" + INPUT + b"\x3a\x00", False),
        (INPUT + HEAD + b"\x3a\x00", False),
        (INPUT + b"\x22\x00\x3a\x00", False),
        (INPUT + b"\x3a\x00" + INPUT, False),
        (INPUT + b"\x3a\x00\x42\x00", False),
        (INPUT + b"\x2b\x00\x3a\x00", False),
        (INPUT + b"\x3a\x02x", False),
        (INPUT + b"\x3a", False),
        (INPUT, False),
        (HEAD + b"\x3a\x00", True),
        (b"", False),
        (INPUT + b"\x3a\x00" * 2000, False),
    ],
)
def test_only_the_usual_encoding_is_split_into_all_its_parts(raw: bytes, is_usual: bool) -> None:
    assert agrees_in_usual_encoding(raw) == is_usual


def test_large_data_is_not_copied() -> None:
    rows = 1 << 16
    raw = as_message(Call("m", (Value("x", "FP32", (rows,), [1.0] * rows),)), raw=True).SerializeToString()
    assert agrees(raw)
    split = split_request(raw)
    assert split is not None
    usual = split_usual(raw)
    assert usual is not None
    for contents in (split.contents, usual[-1]):
        assert isinstance(contents[0], memoryview)
        assert contents[0].obj is raw


def test_small_data_does_not_keep_a_large_message_in_memory() -> None:
    raw = as_message(Call("m", (ROW,), id="i" * 100_000), raw=True).SerializeToString()
    split = split_request(raw)
    assert split is not None
    assert isinstance(split.contents[0], bytes)
    assert split_usual(raw) is None


def test_damaged_messages_are_read_as_protobuf_reads_them() -> None:
    chance = random.Random(11)
    split = usual = 0
    for raw in damaged(chance, 20_000):
        split += agrees(raw)
        usual += agrees_in_usual_encoding(raw)
    assert split > 2_000
    assert usual > 1_000


def damaged(chance: random.Random, count: int) -> Iterator[bytes]:
    """Yield messages with fields in any order, truncated, changed and extended at random."""
    large = as_message(Call("echo_UINT8", (Value("x", "UINT8", (300,), [7] * 300),), id="i"), raw=True)
    seeds = [GOOD, large.SerializeToString(), HEAD + b"\x3a\x02ab\x1a\x01i\x3a\x00"]
    for _ in range(count):
        raw = bytearray(b"".join(chance.choices(seeds, k=chance.randint(1, 2))))
        for _ in range(chance.randint(0, 3)):
            offset = chance.randrange(len(raw))
            kind = chance.randrange(4)
            if kind == 0:
                raw[offset] = chance.randrange(256)
            elif kind == 1:
                raw.insert(offset, chance.randrange(256))
            elif kind == 2 and len(raw) > 1:
                del raw[offset]
            else:
                raw[offset] ^= 1 << chance.randrange(8)
        yield bytes(raw[: chance.randint(1, len(raw))] if chance.random() < 0.1 else raw)


@pytest.fixture
def reader() -> RequestReader:
    return RequestReader(FakeEngine(models(), answer))


def message(*data: float, **more: object) -> bytes:
    values = Value("x", "FP32", (1, 3), list(data))
    return as_message(Call("doubler", (values,), outputs=("y",), **more), raw=True).SerializeToString()  # type: ignore[arg-type]


def test_a_message_with_a_cached_head_is_read_the_same(reader: RequestReader, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = reader.read(message(1, 2, 3, id="a"), None)
    monkeypatch.setattr(grpc_request, "parse", None)
    second, _ = reader.read(message(4, 5, 6, id="b"), None)
    assert (first.id, second.id, second.deadline) == ("a", "b", None)
    assert (second.model, second.version, list(second.outputs)) == ("doubler", "", ["y"])
    assert [tensor[:3] for tensor in second.inputs] == [("x", "FP32", (1, 3))]
    assert np.frombuffer(second.inputs[0].data, np.float32).tolist() == [4, 5, 6]


def test_what_differs_between_two_messages_does_not_matter(
    reader: RequestReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_request, "parse", None)  # protobuf never parses a whole message
    for number in range(3):
        raw = message(number, 2, 3, id="i" * 100 * number, version=str(number), parameters={"priority": number})
        request, _ = reader.read(raw, 60.0)
        assert (request.id, request.version, request.priority) == ("i" * 100 * number, str(number), number)
        assert np.frombuffer(request.inputs[0].data, np.float32).tolist() == [number, 2, 3]
        assert request.deadline is not None
        assert request.layout == ("", ("y",), (("x", "FP32", (1, 3), 12),))
    assert len(reader._forms) == 1
    request, _ = reader.read(message(1, 2, 3, parameters={"signature": "other"}), None)
    assert (request.signature, request.layout, request.deadline) == ("other", None, None)


def test_requests_that_differ_in_the_order_of_inputs_have_one_layout(reader: RequestReader) -> None:
    values = [Value(name, "FP32", (1,), [number]) for number, name in enumerate("bca")]
    for order in itertools.permutations(values):
        raw = as_message(Call("m", order), raw=True).SerializeToString()
        for _ in range(2):
            request, _ = reader.read(raw, None)
            assert [(each.name, bytes(each.data)) for each in request.inputs] == [
                (each.name, each.raw()) for each in sorted(values, key=lambda value: value.name)
            ]
            assert request.layout is not None
            assert request.layout[2] == tuple((name, "FP32", (1,), 4) for name in "abc")


def test_the_layout_is_only_given_for_the_data_that_it_describes(reader: RequestReader) -> None:
    raw = message(1, 2, 3)
    assert reader.read(raw, None)[0].layout is not None
    longer = raw.replace(b"\x3a\x0c", b"\x3a\x10") + b"more"
    request, _ = reader.read(longer, None)
    assert (request.layout, len(request.inputs[0].data)) == (None, 16)


def test_what_is_wrong_with_a_message_is_said_each_time(reader: RequestReader) -> None:
    text = Value("x", "BYTES", (1,), ["a"])
    unknown = as_message(Call("doubler", (text,)), raw=True).SerializeToString().replace(b"BYTES", b"BITES")
    for raw, sentence in (
        (message(1, 2, 3, parameters={"priority": "high"}), "'priority' must be"),
        (unknown, "BITES"),
        (GOOD.replace(b"FP32", b"FP3\xff"), "not a valid inference.ModelInferRequest"),
    ):
        for _ in range(2):
            with pytest.raises(InvalidRequest, match=sentence):
                reader.read(raw, None)


def test_a_timeout_starts_with_each_request(reader: RequestReader) -> None:
    raw = message(1, 2, 3, parameters={"timeout": 60_000_000})
    deadlines = [reader.read(raw, None)[0].deadline for _ in range(2)]
    assert None not in deadlines
    assert deadlines[0] != deadlines[1]


def test_bad_data_after_a_cached_head_is_rejected(reader: RequestReader) -> None:
    raw = message(1, 2, 3)
    reader.read(raw, None)
    with pytest.raises(InvalidRequest, match="2 raw_input_contents"):
        reader.read(raw + b"\x3a\x00", None)
    flag = Value("x", "BOOL", (1,), [True])
    good = as_message(Call("echo_BOOL", (flag,)), raw=True).SerializeToString()
    reader.read(good, None)
    with pytest.raises(InvalidRequest, match="must be 0 or 1"):
        reader.read(good[:-1] + b"\x02", None)


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_request, "_MAX_CACHED", 2)
    reader = RequestReader(FakeEngine(models(), answer))
    for output in ("1", "2", "3"):
        reader.read(as_message(Call("doubler", (ROW,), outputs=(output,)), raw=True).SerializeToString(), None)
    assert [form.outputs for form in reader._forms.entries.values()] == [("2",), ("3",)]
    long = "4" * grpc_message._MAX_PARSED
    request, _ = reader.read(as_message(Call("doubler", (ROW,), outputs=(long,)), raw=True).SerializeToString(), None)
    assert request.outputs == [long]
    assert len(reader._forms) == 2
