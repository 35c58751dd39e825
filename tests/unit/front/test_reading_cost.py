"""The cost of reading a body is linear in its size, for any content. The tests count steps, not seconds."""

import gc
import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

from gateway.codecs.protobuf_limits import check_fields
from gateway.engine.fake import FakeEngine
from gateway.engine.validate import MAX_TENSORS, validate
from gateway.errors import InvalidRequest, ModelportError, TooLarge
from gateway.front.base.body import Headers
from gateway.front.base.limits import LARGE_JSON, Limits
from gateway.front.dialects.tfserving.grpc import Predict
from gateway.front.dialects.v2.grpc_request import RequestReader
from gateway.front.http import routes
from gateway.generated import open_inference_pb2 as pb
from gateway.generated import tensorflow_pb2 as tf
from gateway.generated import tensorflow_serving_pb2 as tfs
from gateway.process.memory import Trimmer, collections_paused
from tests.support.front_server import answer, models

LIMITS = Limits()
ENGINE = FakeEngine(models(), answer)
N = 100
# Instructions of the interpreter per value, name or row of a body. A tensor costs about 450.
MAX_STEPS = 600


def steps(work: Callable[[], object]) -> int:
    """Count the interpreter's instructions. A ModelportError ends the count like a result."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except ModelportError as error:
        str(error)
    finally:
        sys.settrace(before)
    return count


def grows_as_its_body(read: Callable[[int], Callable[[], object]]) -> None:
    steps(read(N))  # objects that are created once
    once, twice = steps(read(N)), steps(read(2 * N))
    assert twice <= 2 * once + 100
    assert twice - once <= N * MAX_STEPS


def values(write: Callable[[int], Any]) -> Callable[[int], list[Any]]:
    return lambda n: [write(i) for i in range(n)]


def named(n: int) -> dict[str, int]:
    return {f"name{i}": i for i in range(n)}


def nested(n: int) -> Any:
    """Return `n` nested lists."""
    data: Any = 1
    for _ in range(n):
        data = [data]
    return data


TENSOR = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}

# Values of an input, in every dialect.
DATA: dict[str, Callable[[int], Any]] = {
    "numbers": values(lambda i: i + 0.5),
    "integers": values(lambda i: i),
    "integers of any size": values(lambda i: (1 << 70) + i),
    "strings": values(str),
    "bytes": values(lambda i: {"b64": "AAA="}),
    "no bytes": values(lambda i: {"b64": 1}),
    "truths": values(lambda i: i % 2 == 0),
    "nulls": values(lambda i: None),
    "not finite": values(lambda i: float("nan")),
    "mixed": values(lambda i: [i, str(i), None, {}][i % 4]),
    "rows": values(lambda i: [i, 1.5]),
    "empty rows": values(lambda i: []),
    "ragged rows": values(lambda i: [0] * (i % 3)),
    "deep rows": values(lambda i: nested(20)),
    "deep": nested,
    "wide": lambda n: [list(range(n))],
    "names": named,
    "objects": values(lambda i: named(2)),
    "equal objects": values(lambda i: {"a": [1, 2], "b": [3]}),
    "one long string": lambda n: "x" * n,
}
MODELS = ("doubler", "two", "untyped", "taught", "echo_BOOL", "echo_BYTES", "echo_INT64", "echo_FP16")


def dialects(model: str, data: Any) -> dict[str, Any]:
    """Path → document."""
    datatype = model.removeprefix("echo_") if model.startswith("echo_") else "FP32"
    return {
        f"/predict/{model}": {"inputs": data},
        f"/predict/{model}/versions/1": {"instances": data},
        f"/v1/models/{model}:predict": {"inputs": data},
        f"/v1/models/{model}/versions/1:predict": {"instances": data},
        f"/v1/models/{model}:classify": {"examples": data},
        f"/v1/models/{model}:regress": {"examples": [{"a": data}]},
        f"/predictions/{model}": {"data": data},
        f"/v2/models/{model}/infer": {"inputs": [{**TENSOR, "datatype": datatype, "shape": [-1], "data": data}]},
        f"/v2/models/{model}/versions/1/infer": {"inputs": [{**TENSOR, "datatype": datatype, "data": data}]},
    }


# Everything around the values.
DOCUMENTS: dict[str, tuple[str, Callable[[int], Any]]] = {
    "inputs": ("/v2/models/doubler/infer", lambda n: {"inputs": [TENSOR] * n}),
    "inputs of their own names": (
        "/v2/models/doubler/infer",
        lambda n: {"inputs": [{**TENSOR, "name": str(i)} for i in range(n)]},
    ),
    "outputs": ("/v2/models/doubler/infer", lambda n: {"inputs": [TENSOR], "outputs": [{"name": "y"}] * n}),
    "other outputs": (
        "/v2/models/untyped/infer",
        lambda n: {"inputs": [TENSOR], "outputs": [{"name": str(i), "parameters": named(3)} for i in range(n)]},
    ),
    "parameters": ("/v2/models/doubler/infer", lambda n: {"inputs": [TENSOR], "parameters": named(n)}),
    "an input's parameters": (
        "/v2/models/doubler/infer",
        lambda n: {"inputs": [{**TENSOR, "parameters": named(n)}]},
    ),
    "dimensions": ("/v2/models/doubler/infer", lambda n: {"inputs": [{**TENSOR, "shape": [1] * n}]}),
    "keys": ("/v2/models/doubler/infer", lambda n: {"inputs": [TENSOR], **named(n)}),
    "keys of /predict": ("/predict/doubler", lambda n: {"inputs": [[1, 2, 3]], **named(n)}),
    "keys of TorchServe": ("/predictions/doubler", lambda n: {"data": [[1, 2, 3]], **named(n)}),
    "outputs of /predict": ("/predict/doubler", lambda n: {"inputs": [[1, 2, 3]], "outputs": list(named(n))}),
    "parameters of /predict": ("/predict/doubler", lambda n: {"inputs": [[1, 2, 3]], "parameters": named(n)}),
    "a context": ("/v1/models/doubler:classify", lambda n: {"examples": [{}], "context": named(n)}),
    "a list": ("/predictions/doubler", lambda n: [[1, 2, 3]] * n),
}


def read_rest(path: str, body: bytes) -> Callable[[], object]:
    route = routes.match(path.encode())
    assert route is not None

    def read() -> None:
        request, _ = route.dialect.read(ENGINE, LIMITS, route, Headers(content_length=len(body)), body)
        validate(request, ENGINE.model(request.model, request.version))

    return read


@pytest.mark.parametrize("kind", list(DATA))
@pytest.mark.parametrize("model", MODELS)
def test_the_cost_of_values_is_linear(kind: str, model: str) -> None:
    for path in dialects(model, 0):
        grows_as_its_body(
            lambda n, path=path: read_rest(path, json.dumps(dialects(model, DATA[kind](n))[path]).encode())
        )  # type: ignore[misc]


@pytest.mark.parametrize("kind", list(DOCUMENTS))
def test_the_cost_of_everything_around_values_is_linear(kind: str) -> None:
    path, write = DOCUMENTS[kind]
    grows_as_its_body(lambda n: read_rest(path, json.dumps(write(n)).encode()))


def test_the_cost_of_a_repeated_name_is_linear() -> None:
    for path, key in (("/predict/doubler", "x"), ("/v1/models/doubler:predict", "x"), ("/predictions/doubler", "y")):
        grows_as_its_body(
            lambda n, path=path, key=key: read_rest(
                path, b'{"inputs":{%b}}' % b",".join([b'"%b":1' % key.encode()] * n)
            )  # type: ignore[misc]
        )


def infer_message(**more: Any) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 3])
    return pb.ModelInferRequest(model_name="doubler", inputs=[tensor], **more)


def with_tensor(n: int, **more: Any) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(
        model_name="doubler", inputs=[pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", **more)]
    )


def parameters(n: int) -> dict[str, pb.InferParameter]:
    return {f"name{i}": pb.InferParameter(int64_param=i) for i in range(n)}


MESSAGES: dict[str, Callable[[int], pb.ModelInferRequest]] = {
    "inputs": lambda n: pb.ModelInferRequest(model_name="doubler", inputs=list(infer_message().inputs) * n),
    "contents": lambda n: infer_message(raw_input_contents=[b""] * n),
    "outputs": lambda n: infer_message(
        outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name=str(i)) for i in range(n)]
    ),
    "parameters": lambda n: infer_message(parameters=parameters(n)),
    "an input's parameters": lambda n: with_tensor(n, parameters=parameters(n)),
    "dimensions": lambda n: with_tensor(n, shape=[1] * n),
    "numbers": lambda n: with_tensor(n, contents=pb.InferTensorContents(fp32_contents=[1.5] * n)),
    "other numbers": lambda n: with_tensor(n, contents=pb.InferTensorContents(int64_contents=[1] * n)),
    "strings": lambda n: with_tensor(n, contents=pb.InferTensorContents(bytes_contents=[b"x"] * n)),
}


@pytest.mark.parametrize("kind", list(MESSAGES))
def test_the_cost_of_messages_is_linear(kind: str) -> None:
    def read(n: int) -> Callable[[], object]:
        raw = MESSAGES[kind](n).SerializeToString()
        return lambda: RequestReader(ENGINE).read(raw, None)

    grows_as_its_body(read)


@pytest.mark.parametrize(
    "write",
    [
        lambda n: tfs.PredictRequest(inputs={f"name{i}": tf.TensorProto(dtype=1, float_val=[1]) for i in range(n)}),
        lambda n: tfs.PredictRequest(inputs={"x": tf.TensorProto(dtype=1, float_val=[1] * n)}),
        lambda n: tfs.PredictRequest(
            inputs={"x": tf.TensorProto(dtype=1, tensor_shape={"dim": [tf.TensorShapeProto.Dim(size=1)] * n})}
        ),
        lambda n: tfs.PredictRequest(output_filter=[str(i) for i in range(n)]),
    ],
    ids=["inputs", "numbers", "dimensions", "outputs"],
)
def test_the_cost_of_tensorflow_serving_messages_is_linear(write: Callable[[int], tfs.PredictRequest]) -> None:
    def read(n: int) -> Callable[[], object]:
        message = write(n)
        message.model_spec.name = "doubler"
        raw = message.SerializeToString()
        return lambda: Predict(ENGINE, LIMITS).read(raw, None)

    grows_as_its_body(read)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x2a\x00" * (1 << 17),  # inputs
        b"\x32\x00" * (1 << 17),  # outputs
        b"\x22\x00" * (1 << 17),  # parameters
        b"\x3a\x00" * (1 << 17),  # raw_input_contents
        b"\x2a\x80\x80\x08" + b"\x22\x00" * (1 << 16),  # parameters of an input
        b"\x2a\x80\x80\x08" + b"\x18\x01" * (1 << 16),  # dimensions of an input
        b"\xf8\x01\x01" * (1 << 17),  # unknown ones
    ],
)
def test_a_message_with_too_many_fields_is_not_parsed(raw: bytes) -> None:
    with pytest.raises(TooLarge, match="more than 65536 fields"):
        RequestReader(ENGINE).read(raw, None)


@pytest.mark.parametrize("end", [b"\x2a", b"\x2a\xff", b"\x2a\x05\x00", b"\x0b", b"\x80" * 11, b"\x2d\x00"])
def test_a_large_invalid_message_is_rejected(end: bytes) -> None:
    raw = b"\x2a\x80\x80\x04" + b"\x12\xfd\xff\x03" + b"x" * ((1 << 16) - 4) + end
    with pytest.raises(InvalidRequest, match=r"not a valid inference\.ModelInferRequest"):
        check_fields(raw, pb.ModelInferRequest.DESCRIPTOR, 1000)


def test_values_are_no_fields_to_count() -> None:
    message = with_tensor(0, contents=pb.InferTensorContents(bytes_contents=[b"x"] * (1 << 17)))
    check_fields(message.SerializeToString(), pb.ModelInferRequest.DESCRIPTOR, 10)


def test_more_tensors_than_any_model_has_are_rejected_before_they_are_read() -> None:
    for document in ({"inputs": [TENSOR] * (MAX_TENSORS + 1)}, {"inputs": [TENSOR], "outputs": [{}] * 5000}):
        with pytest.raises(InvalidRequest, match=f"at most {MAX_TENSORS} are allowed"):
            read_rest("/v2/models/doubler/infer", json.dumps(document).encode())()


@pytest.mark.parametrize("path", list(dialects("doubler", 0)))
def test_a_large_document_is_read_in_a_thread(path: str) -> None:
    route = routes.match(path.encode())
    assert route is not None
    for size in (100, LARGE_JSON):
        headers = Headers(content_length=size, content_type="application/json")
        assert route.dialect.is_slow(headers, bytes(size)) is (size == LARGE_JSON)
    binary = Headers(content_length=1 << 24, json_length=100, content_type="application/x-npy")
    if "predict/" in path or "v2" in path:
        assert not route.dialect.is_slow(binary, np.zeros(1 << 20, np.uint8).data)


def test_nothing_is_collected_while_a_document_is_read() -> None:
    assert gc.isenabled()
    with collections_paused():
        with collections_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_memory_is_returned_when_much_of_it_is_free() -> None:
    mib, trims = 1 << 20, 0
    resident = 100 * mib

    def trim() -> None:
        nonlocal resident, trims
        resident, trims = 110 * mib, trims + 1

    trimmer = Trimmer(lambda: resident, trim)
    for now, expected in ((120, 0), (90, 0), (121, 0), (123, 1), (140, 1), (400, 2), (400, 3)):
        resident = now * mib
        trimmer.check()
        assert trims == expected
