"""What a front records of each request, whichever way it came and however it ended."""

import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from http.client import HTTPResponse
from types import ModuleType

import grpc
import pytest

from gateway.domain.request_record import RequestRecord
from gateway.domain.types import InferRequest
from gateway.errors import InvalidRequest
from gateway.front.base.limits import Limits
from gateway.front.base.records import grpc_record
from gateway.front.dialects.v2.grpc_request import RequestReader
from gateway.front.dialects.v2.grpc_response import ResponseWriter
from gateway.generated import open_inference_pb2 as pb
from gateway.generated import tensorflow_serving_pb2 as tfserving
from runtimes.contract import TensorSpec
from runtimes.tensors import Tensor
from tests.support.bad_inputs import Subject, good_call
from tests.support.front_server import LIMITS, WAIT_S, Serving, in_thread, model
from tests.support.v2_calls import as_message
from tests.unit.front.test_compiled_requests import Bench, Run, module, request, run

__all__ = ["module", "run"]  # fixtures

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEADERS = {"traceparent": PARENT, "tracestate": "a=1", "X-Request-Id": "r-1"}
BODY = {"id": "i-1", "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
TEXT = json.dumps(BODY).encode()


class Recorder:
    """An Observer that keeps the records. `compiled`: whether it does without those of the compiled path."""

    def __init__(self, compiled: bool = False) -> None:
        self.compiled = compiled
        self.named_models: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.records: list[RequestRecord] = []
        self._changed = threading.Condition()

    def skips(self, model: str, traceparent: str) -> bool:
        self.asked.append((model, traceparent))
        return self.compiled

    def named(self, record: RequestRecord) -> None:
        self.named_models.append(record.model)

    def ended(self, record: RequestRecord) -> None:
        with self._changed:
            self.records.append(record)
            self._changed.notify()

    def wait(self, count: int = 1) -> list[RequestRecord]:
        """Return the records, and forget them, once there are this many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.records) >= count, WAIT_S), self.records
            found, self.records = self.records, []
        assert len(found) == count, found
        return found

    def one(self) -> RequestRecord:
        [record] = self.wait()
        return record


RECORDER = Recorder()


@pytest.fixture(scope="module")
def running() -> Iterator[Serving]:
    with in_thread(observer=RECORDER) as serving:
        yield serving


@pytest.fixture(autouse=True)
def recorder(serving: Serving) -> Recorder:
    RECORDER.records.clear()
    return RECORDER


def outcome(record: RequestRecord) -> tuple[str, str, int, str]:
    return record.method, record.path, record.status, record.outcome


def test_a_request_for_inference_over_rest(serving: Serving, recorder: Recorder) -> None:
    before = time.monotonic()
    for _ in range(2):  # the second has a cached head
        answer = serving.http.post("/v2/models/doubler/infer?a=b", json=BODY, headers=HEADERS)
        record = recorder.one()
        assert outcome(record) == ("POST", "/v2/models/doubler/infer", 200, "success")
        assert record.protocol == "http"
        assert (record.model, record.id, record.request_id) == ("doubler", "i-1", "r-1")
        assert (record.traceparent, record.tracestate) == (PARENT, "a=1")
        assert record.bytes_in == int(answer.request.headers["content-length"])
        assert record.bytes_out == len(answer.content)
        assert record.peer.startswith("127.0.0.1:")
        assert before <= record.arrived <= record.received <= record.written
    assert recorder.named_models[-1] == "doubler"


@pytest.mark.parametrize(
    ("path", "body", "model"),
    [
        ("/predict", {"model": "doubler", "inputs": [[1, 2, 3]]}, "doubler"),
        ("/v1/models/doubler:predict", {"instances": [[1, 2, 3]]}, "doubler"),
        ("/predictions/doubler", [[1, 2, 3]], "doubler"),
    ],
)
def test_every_dialect_of_rest_is_recorded(
    serving: Serving, recorder: Recorder, path: str, body: object, model: str
) -> None:
    assert serving.http.post(path, json=body).status_code == 200
    record = recorder.one()
    assert outcome(record) == ("POST", path, 200, "success")
    assert record.model == model


def test_headers_that_come_twice(serving: Serving, recorder: Recorder) -> None:
    for lines in ("tracestate: a=1\r\ntracestate: b=2\r\n", f"tracestate: a=1,b=2\r\ntracestate: {'x' * 512}\r\n"):
        more = f"traceparent: {PARENT}\r\ntraceparent: {PARENT[:-1]}0\r\n{lines}"
        send(serving, post("/v2/models/doubler/infer", len(TEXT), more) + TEXT)
        record = recorder.one()
        assert (record.traceparent, record.tracestate) == (PARENT, "a=1,b=2")


def send(serving: Serving, data: bytes) -> tuple[int, bytes]:
    """Return the status and body of the answer."""
    with serving.connect() as connection:
        connection.sendall(data)
        answer = HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read()


def post(path: str, length: int, more: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{more}content-length: {length}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (post("/v2/models/doubler/infer", 2) + b"[]", ("POST", "/v2/models/doubler/infer", 400, "invalid")),
        (post("/v2/models/nosuch/infer", len(TEXT)) + TEXT, ("POST", "/v2/models/nosuch/infer", 404, "not_found")),
        (
            post("/v2/models/doubler/infer", LIMITS.json_bytes + 1),
            ("POST", "/v2/models/doubler/infer", 413, "too_large"),
        ),
        (b"GET /predict HTTP/1.1\r\nhost: localhost\r\n\r\n", ("GET", "/predict", 405, "not_allowed")),
        (b"GET /v2 HTTP/1.1\r\nhost: localhost\r\n\r\n", ("GET", "/v2", 200, "success")),
        (b"GET /nosuch?x HTTP/1.1\r\nhost: localhost\r\n\r\n", ("GET", "/nosuch", 404, "not_found")),
        (b"\0\r\n\r\n", ("", "", 400, "invalid")),
        (
            post("/v2/models/doubler/infer", 2, f"x: {'y' * (3 << 16)}\r\n"),
            ("POST", "/v2/models/doubler/infer", 431, "invalid"),
        ),
    ],
)
def test_refusals_over_rest_are_recorded(
    serving: Serving, recorder: Recorder, data: bytes, expected: tuple[str, str, int, str]
) -> None:
    status, body = send(serving, data)
    record = recorder.one()
    assert outcome(record) == expected
    assert (record.status, record.bytes_out) == (status, len(body))


def test_the_model_of_a_request_to_the_admin_app(serving: Serving, recorder: Recorder) -> None:
    serving.http.get("/v2/models/doubler")
    assert recorder.one().model == "doubler"


def test_a_client_that_disconnects_has_cancelled(serving: Serving, recorder: Recorder) -> None:
    serving.open_gate(False)
    with serving.connect() as connection:
        body = json.dumps(BODY).encode()
        connection.sendall(post("/v2/models/doubler/infer", len(body)) + body)
        assert serving.engine.arrived.wait(WAIT_S)
    record = recorder.one()
    assert outcome(record) == ("POST", "/v2/models/doubler/infer", 0, "cancelled")
    assert record.bytes_out == 0


METADATA = (("traceparent", PARENT), ("tracestate", "a=1"), ("x-request-id", "r-1"))
INFER = "/inference.GRPCInferenceService/ModelInfer"


def message(model: str = "doubler") -> pb.ModelInferRequest:
    found = as_message(good_call(Subject()), raw=True)
    found.model_name, found.id = model, "i-1"
    return found


def test_a_call_for_inference(grpc_serving: Serving, recorder: Recorder) -> None:
    raw = message().SerializeToString()
    answer = grpc_serving.call("ModelInfer", raw, metadata=METADATA)
    record = recorder.one()
    assert outcome(record) == ("", INFER, 0, "success")
    assert (record.protocol, record.model, record.id, record.request_id) == ("grpc", "doubler", "i-1", "r-1")
    assert (record.traceparent, record.tracestate) == (PARENT, "a=1")
    assert (record.bytes_in, record.bytes_out) == (len(raw), len(answer))
    assert record.peer.startswith("ipv4:127.0.0.1:")
    assert record.arrived == record.received <= record.written


@pytest.mark.parametrize(
    ("path", "raw", "model", "code", "kind"),
    [
        (INFER, lambda: b"\xff", "", grpc.StatusCode.INVALID_ARGUMENT, "invalid"),
        (INFER, lambda: message("nosuch").SerializeToString(), "nosuch", grpc.StatusCode.NOT_FOUND, "not_found"),
        ("/inference.GRPCInferenceService/ServerLive", lambda: b"", "", None, "success"),
        ("/inference.GRPCInferenceService/ModelMetadata", lambda: b"\x0a\x05small", "small", None, "success"),
        ("/grpc.health.v1.Health/Check", lambda: b"\x0a\x01x", "", grpc.StatusCode.NOT_FOUND, "not_found"),
        ("/tensorflow.serving.PredictionService/Predict", lambda: predict(), "doubler", None, "success"),
        ("/tensorflow.serving.PredictionService/Classify", lambda: b"", "", grpc.StatusCode.NOT_FOUND, "not_found"),
        ("/no.such/Method", lambda: b"", "", grpc.StatusCode.UNIMPLEMENTED, "not_found"),
    ],
)  # fmt: skip
def test_every_kind_of_call_is_recorded(
    grpc_serving: Serving,
    recorder: Recorder,
    path: str,
    raw: Callable[[], bytes],
    model: str,
    code: grpc.StatusCode | None,
    kind: str,
) -> None:
    call = grpc_serving.channel.unary_unary(path)
    if code is None:
        call(raw(), timeout=WAIT_S)
    else:
        with pytest.raises(grpc.RpcError) as refused:
            call(raw(), timeout=WAIT_S)
        assert refused.value.code() is code
    record = recorder.one()
    assert outcome(record) == ("", path, 0 if code is None else code.value[0], kind)
    assert record.model == model


def predict() -> bytes:
    found = tfserving.PredictRequest()
    found.model_spec.name = "doubler"
    tensor = found.inputs["x"]
    tensor.dtype, tensor.tensor_content = 1, bytes(12)
    for size in (1, 3):
        tensor.tensor_shape.dim.add(size=size)
    written: bytes = found.SerializeToString()
    return written


def test_each_message_of_a_stream_has_a_record(grpc_serving: Serving, recorder: Recorder) -> None:
    stream = grpc_serving.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    sent = [message().SerializeToString(), message("nosuch").SerializeToString()]
    answers = list(stream(iter(sent), timeout=WAIT_S, metadata=METADATA))
    records = sorted(recorder.wait(2), key=lambda record: record.status)
    assert [(record.status, record.outcome) for record in records] == [(0, "success"), (5, "not_found")]
    for record, raw in zip(records, sent, strict=True):
        assert (record.path, record.traceparent) == ("/inference.GRPCInferenceService/ModelStreamInfer", PARENT)
        assert record.bytes_in == len(raw)
        assert record.arrived > 0
    assert sum(record.bytes_out for record in records) == sum(map(len, answers))


def several(request: InferRequest) -> Iterator[list[Tensor]]:
    yield from [[tensor._replace(name="y") for tensor in request.inputs]] * 3
    if request.id == "fails":
        raise InvalidRequest("no more")


@pytest.fixture
def decoupled(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    many = model("many", TensorSpec("x", "FP32", (-1, 3)), decoupled=True)
    monkeypatch.setattr(serving.engine, "_models", [*serving.engine._models, many])
    monkeypatch.setattr(serving.engine, "stream", several)


@pytest.mark.usefixtures("decoupled")
@pytest.mark.parametrize(("name", "ended"), [("works", "success"), ("fails", "invalid")])
def test_a_request_with_several_answers_has_one_record(
    grpc_serving: Serving, recorder: Recorder, name: str, ended: str
) -> None:
    answer = grpc_serving.http.post("/v2/models/many/generate_stream", json={"id": name, "x": [1, 2, 3]})
    record = recorder.one()
    assert outcome(record) == ("POST", "/v2/models/many/generate_stream", 200, ended)
    assert (record.model, record.bytes_out) == ("many", len(answer.content))
    sent = message("many")
    sent.id = name
    stream = grpc_serving.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    answers = list(stream(iter([sent.SerializeToString()]), timeout=WAIT_S))
    record = recorder.one()
    assert (len(answers), record.outcome, record.bytes_out) == (3 + (name == "fails"), ended, sum(map(len, answers)))


def test_a_call_that_is_cancelled(grpc_serving: Serving, recorder: Recorder) -> None:
    grpc_serving.open_gate(False)
    call = grpc_serving.channel.unary_unary(INFER).future(message().SerializeToString(), timeout=WAIT_S)
    assert grpc_serving.engine.arrived.wait(WAIT_S)
    call.cancel()
    record = recorder.one()
    assert outcome(record) == ("", INFER, 1, "cancelled")


def test_a_watch_of_health_ends_with_its_call(grpc_serving: Serving, recorder: Recorder) -> None:
    watch = grpc_serving.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=WAIT_S)
    next(watch)
    watch.cancel()
    assert recorder.one().outcome == "cancelled"


def test_what_the_engine_adds(run: Run) -> None:
    recorder = Recorder()

    async def test(bench: Bench) -> None:
        count = 4
        for _ in range(count):
            bench.pair.send(bench.number, request(id="i"))
            await bench.pair.compare()
            await bench.answer_all()
        assert bench.taken > 0
        assert len(recorder.records) == 2 * count  # two fronts
        for record in recorder.records:
            times = [getattr(record, step) for step in ("arrived", "received", "queued", "sent", "answered", "written")]
            assert times == sorted(times)
            assert times[0] > 0
            assert (record.model, record.version, record.batch_rows) == ("m", "1", 8)
            assert (record.id, record.method, record.path) == ("i", "POST", "/v2/models/m/infer")
            assert (record.status, record.outcome) == (200, "success")
            assert record.bytes_in == len(request(id="i").partition(b"\r\n\r\n")[2])
            assert record.bytes_out == len(bench.pair.answers[bench.number].rpartition(b"\r\n\r\n")[2])
            assert record.compute_input_ns == 1000
            assert (record.queue_ns, record.compute_infer_ns, record.compute_output_ns) == (1000, 2000, 3000)
            assert record.batch is not None
        assert ("m", "") in recorder.asked

    run(test, observer=recorder)


def test_requests_that_share_a_frame_share_a_batch(run: Run) -> None:
    recorder = Recorder()

    async def test(bench: Bench) -> None:
        others = [bench.number, bench.pair.connect()]
        for number in others:
            bench.pair.send(number, request())
        await bench.pair.compare()
        await bench.answer_together()
        assert len({id(record.batch) for record in recorder.records}) == 2  # two fronts
        assert len(recorder.records) == 4

    run(test, observer=recorder)


def test_what_is_skipped_takes_the_compiled_path(run: Run) -> None:
    recorder = Recorder(compiled=True)

    async def test(bench: Bench) -> None:
        await bench.learn()
        recorder.records.clear()
        recorder.asked.clear()
        await bench.ask(request())
        await bench.answer_all()
        assert len(recorder.records) == 1  # of the front without the fast path
        assert recorder.asked == [("m", "")]

    run(test, observer=recorder)


def test_the_compiled_path_finds_the_parent(run: Run) -> None:
    recorder = Recorder(compiled=True)

    async def test(bench: Bench) -> None:
        await bench.learn()
        recorder.asked.clear()
        for line in (f"TraceParent:  {PARENT} \r\n", "traceparents: 1\r\n"):
            text = request()
            bench.pair.send(bench.number, text.replace(b"host:", line.encode() + b"host:", 1))
            await bench.pair.compare()
            await bench.answer_all()
        assert recorder.asked[0] == ("m", PARENT)
        assert all(parent == "" for _, parent in recorder.asked[1:])

    run(test, observer=recorder)


Act = Callable[[Bench], Awaitable[None]]


async def leave(bench: Bench) -> None:
    other = bench.pair.connect()
    await bench.ask(request(), other)
    await bench.leave()


async def fail(bench: Bench) -> None:
    await bench.ask()
    await bench.fail()


async def expire(bench: Bench) -> None:
    await bench.ask()
    await bench.expire()


async def break_off(bench: Bench) -> None:
    other = bench.pair.connect()
    await bench.ask(request(), other)
    bench.pair.send(other, b"this is not HTTP\r\n\r\n")
    await bench.pair.compare()


@pytest.mark.parametrize(
    ("act", "status", "kind"),
    [(leave, 0, "cancelled"), (fail, 500, "internal"), (expire, 504, "deadline"), (break_off, 400, "invalid")],
)
def test_the_compiled_path_records_how_a_request_ends(run: Run, act: Act, status: int, kind: str) -> None:
    recorder = Recorder()

    async def test(bench: Bench) -> None:
        await bench.learn()
        recorder.records.clear()
        await act(bench)
        assert len(recorder.records) == 2
        for record in recorder.records:
            assert (record.status, record.outcome) == (status, kind)
            assert 0 < record.arrived <= record.queued <= record.sent <= record.answered <= record.written
            assert record.batch == 0

    run(test, observer=recorder)


def test_a_request_that_no_worker_has_got_was_not_sent(run: Run) -> None:
    recorder = Recorder()

    async def test(bench: Bench) -> None:
        await bench.learn()  # the next request of this connection uses the same object
        await bench.ask(request(), bench.pair.connect())
        bench.pair.send(bench.number, request())  # it waits in the queue
        await bench.pair.compare()
        recorder.records.clear()
        await bench.expire()
        for record in recorder.records:
            assert 0 < record.arrived <= record.queued <= record.answered
        assert sorted(bool(record.sent) for record in recorder.records) == [False, False, True, True]

    run(test, window=1, observer=recorder)


def test_the_compiled_path_records_calls(run: Run, module: ModuleType) -> None:
    recorder = Recorder()
    found = pb.ModelInferRequest(model_name="m", id="i", raw_input_contents=[bytes(8)])
    found.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    text = found.SerializeToString()

    async def test(bench: Bench) -> None:
        engine = bench.pair.fast.engine
        begun, ended, answers = [], [], list[tuple[int, bytes]]()

        def begin(*arguments: object) -> RequestRecord:
            begun.append(arguments)
            return grpc_record(recorder, INFER, "peer", METADATA, len(text))

        reader, writer = RequestReader(engine), ResponseWriter(engine, Limits())
        for each in (engine, bench.pair.plain.engine):
            each.submit(reader.read(text, None)[0], lambda answer: None)  # the form is learned
        calls = module.FastPath(engine, Limits(), recorder).calls(
            reader, writer, {}, answers, lambda: None, lambda *outcome: None, 1 << 20, {}, begin,
            lambda *arguments: ended.append(arguments),
        )  # fmt: skip
        assert calls.take(7, text, None, None, (3, "peer", METADATA))
        bench.pair.plain.engine.submit(reader.read(text, None)[0], lambda answer: None)
        await bench.pair.compare()
        await bench.answer_all()
        assert begun == [(7, 3, "peer", METADATA, text)]
        assert recorder.asked[-1] == ("m", PARENT)
        assert recorder.named_models[-1] == "m"
        [(call, answer)] = answers
        assert ended == [(call, 0, "", len(answer))]

    run(test, observer=recorder)
