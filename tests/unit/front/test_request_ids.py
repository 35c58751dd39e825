"""The client's x-request-id comes back with every answer, whatever the dialect, the path and the outcome."""

import re
from http.client import HTTPResponse
from typing import Any

import grpc
import pytest

from gateway.domain.request_record import RequestRecord
from gateway.front.base.request_ids import CURRENT_ID, header_id, metadata_id, new_id
from gateway.generated import open_inference_pb2 as pb
from tests.support.bad_inputs import Subject, good_call
from tests.support.front_server import WAIT_S, Serving
from tests.support.v2_calls import as_json, as_message
from tests.unit.front.test_access import HOT
from tests.unit.front.test_compiled_requests import Bench, Run, module, request, run

__all__ = ["module", "run"]  # fixtures

GOOD = good_call(Subject())
INFER = "/inference.GRPCInferenceService/ModelInfer"
ID = "order-7/3~!"
COLD = [
    ("GET", "/v2", 200), ("GET", "/v2/models/nosuch", 404), ("GET", "/nosuch", 404), ("PUT", "/v2", 405),
    ("GET", GOOD.path, 405), ("POST", "/v2/repository/index", 200), ("GET", "/v1/models/nosuch", 404),
    ("GET", "/models/nosuch", 404), ("POST", "/v2/systemsharedmemory/region/a/register", 501),
]  # fmt: skip
# Not an id: empty, with a space, too long, not ASCII, with a control character.
INVALID = [b"", b"a b", b"a" * 129, b"caf\xc3\xa9", b"a\x01b", b"a\tb"]


@pytest.mark.parametrize(("path", "body"), HOT)
@pytest.mark.parametrize("repeated", [False, True])
def test_an_inference_request_keeps_its_id(serving: Serving, path: str, body: bytes, repeated: bool) -> None:
    """A repeated head is found in a cache; its id is the new one."""
    for number in range(3 if repeated else 1):
        name = f"{ID}-{number}"
        answer = serving.http.post(path, content=body, headers={"X-Request-Id": name})
        assert (answer.status_code, answer.headers.get_list("x-request-id")) == (200, [name])
        assert "x-request-id" not in serving.http.post(path, content=body).headers


@pytest.mark.parametrize(("path", "body"), HOT)
def test_a_request_that_fails_keeps_its_id(serving: Serving, path: str, body: bytes) -> None:
    headers = {"X-Request-Id": ID}
    for wrong in (b"{", body.replace(b"1.0", b'"a"')):
        answer = serving.http.post(path, content=wrong, headers=headers)
        assert (answer.status_code, answer.headers["x-request-id"]) == (400, ID)
    too_large = serving.http.post(path, content=b" " * (1 << 21), headers=headers)
    assert (too_large.status_code, too_large.headers["x-request-id"]) == (413, ID)
    compressed = serving.http.post(path, content=body, headers={**headers, "Accept-Encoding": "gzip"})
    assert compressed.headers["x-request-id"] == ID


@pytest.mark.parametrize(("method", "path", "status"), COLD)
def test_every_other_request_keeps_its_id(serving: Serving, method: str, path: str, status: int) -> None:
    answer = serving.http.request(method, path, headers={"X-Request-Id": ID})
    assert (answer.status_code, answer.headers.get_list("x-request-id")) == (status, [ID])
    assert "x-request-id" not in serving.http.request(method, path).headers


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST %b HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"POST %b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", 400),
    ],
)
def test_a_request_that_is_broken_off_keeps_its_id(serving: Serving, head: bytes, status: int) -> None:
    with serving.connect() as connection:
        connection.sendall(b"%bX-Request-Id: %b\r\n\r\nnot a chunk\r\n" % (head % GOOD.path.encode(), ID.encode()))
        answer = HTTPResponse(connection)
        answer.begin()
        assert answer.status == status
        assert answer.getheader("x-request-id") in (ID, None if b"Length" in head else ID)


@pytest.mark.parametrize("value", INVALID)
def test_what_is_no_id_is_ignored(serving: Serving, value: bytes) -> None:
    head = b"%b HTTP/1.1\r\nHost: a\r\nX-Request-Id: %b\r\nContent-Length: %d\r\n\r\n%b"
    body = as_json(GOOD)
    for method, path, content in (("POST", GOOD.path, body), ("GET", "/v2", b"")):
        for _ in range(3):
            with serving.connect() as connection:
                line = f"{method} {path}".encode()
                connection.sendall(head % (line, value, len(content), content))
                answer = HTTPResponse(connection)
                answer.begin()
                assert answer.getheader("x-request-id") is None


def test_only_the_first_of_several_counts() -> None:
    assert header_id([(b"x-request-id", b" one\t"), (b"x-request-id", b"two")]) == b"one"
    assert header_id([(b"x-request-id", b"not one"), (b"x-request-id", b"two")]) == b""
    assert metadata_id([("x-request-id", "one"), ("x-request-id", "two")]) == "one"
    assert metadata_id([("x-request-id-bin", b"one"), ("x-request-id", "\N{EURO SIGN}")]) == ""
    assert len({new_id() for _ in range(1000)}) == 1000


def trailing(call: Any) -> list[str]:
    return [value for name, value in call.trailing_metadata() or () if name == "x-request-id"]


def test_grpc_calls_keep_their_id(grpc_serving: Serving) -> None:
    good = as_message(GOOD, raw=True).SerializeToString()
    wrong = pb.ModelInferRequest(model_name="nosuch").SerializeToString()
    calls = [(INFER, good), (INFER, wrong), (INFER, b"\xff"), ("/grpc.health.v1.Health/Check", b"")]
    calls += [(INFER.replace("ModelInfer", name), raw) for name, raw in (("ServerLive", b""), ("ModelMetadata", wrong))]
    for path, raw in calls:
        for name in (ID, f"{ID}-2", ""):
            metadata = [("x-request-id", name)] if name else []
            call = grpc_serving.channel.unary_unary(path)
            try:
                _, answered = call.with_call(raw, timeout=WAIT_S, metadata=metadata)
            except grpc.RpcError as error:
                answered = error
            assert trailing(answered) == ([name] if name else []), path


def test_many_calls_at_once_keep_their_ids(grpc_serving: Serving) -> None:
    good = as_message(GOOD, raw=True).SerializeToString()
    call = grpc_serving.channel.unary_unary(INFER)
    names = [f"{number}" if number % 3 else "" for number in range(60)]
    running = [call.future(good, timeout=WAIT_S, metadata=[("x-request-id", name)] if name else None) for name in names]
    assert [each.result() and trailing(each) for each in running] == [[name] if name else [] for name in names]


def test_grpc_streams_keep_their_id(grpc_serving: Serving) -> None:
    path = "/inference.GRPCInferenceService/ModelStreamInfer"
    good = as_message(GOOD, raw=True).SerializeToString()
    call = grpc_serving.channel.stream_stream(path)(iter([good]), timeout=WAIT_S, metadata=[("x-request-id", ID)])
    assert len(list(call)) == 1
    assert trailing(call) == [ID]
    watch = grpc_serving.channel.unary_stream("/grpc.health.v1.Health/Watch")
    with pytest.raises(grpc.RpcError) as refused:
        list(watch(b"\xff", timeout=WAIT_S, metadata=[("x-request-id", ID)]))
    assert trailing(refused.value) == [ID]


@pytest.mark.parametrize(
    "value", [each for each in INVALID if each.isascii() and b"\x01" not in each and b"\t" not in each]
)
def test_what_is_no_id_is_ignored_over_grpc(grpc_serving: Serving, value: bytes) -> None:
    good = as_message(GOOD, raw=True).SerializeToString()
    call = grpc_serving.channel.unary_unary(INFER)
    _, answered = call.with_call(good, timeout=WAIT_S, metadata=[("x-request-id", value.decode())])
    assert trailing(answered) == []


@pytest.mark.parametrize("grpc_path", [False, True])
def test_an_unexpected_error_is_logged_with_the_id(
    serving: Serving, caplog: pytest.LogCaptureFixture, grpc_path: bool
) -> None:
    serving.engine.failure = RuntimeError("unexpected")
    if grpc_path:
        with pytest.raises(grpc.RpcError):
            serving.channel.unary_unary(INFER)(
                as_message(GOOD, raw=True).SerializeToString(), timeout=WAIT_S, metadata=[("x-request-id", ID)]
            )
    else:
        answer = serving.http.post(GOOD.path, content=as_json(GOOD), headers={"X-Request-Id": ID})
        assert (answer.status_code, answer.headers["x-request-id"]) == (500, ID)
    [record] = [each for each in caplog.records if "unexpected error" in each.getMessage()]
    assert record.__dict__["request_id"] == ID


def test_a_task_knows_the_id_of_its_request(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    models = serving.engine.models
    monkeypatch.setattr(serving.engine, "models", lambda: (seen.append(CURRENT_ID.get()), models())[1])
    serving.http.get("/v2/models", headers={"X-Request-Id": ID})
    serving.http.get("/v2/models")
    assert seen == [ID, ""]


def test_the_compiled_path_keeps_ids(run: Run) -> None:
    """It does as the Python code does: `compare` asks both."""

    def named(line: str, value: float) -> bytes:
        return request(value).replace(b"host:", line.encode() + b"host:", 1)

    async def test(bench: Bench) -> None:
        await bench.learn()
        bench.answers()
        lines = [f"X-Request-Id: {ID}\r\n", "", "x-REQUEST-id:  a \r\n", "x-request-id: 1\r\nx-request-id: 2\r\n"]
        lines += [f"x-request-id: {'a' * 128}\r\n", *(f"x-request-id: {each.decode()}\r\n" for each in INVALID[:3])]
        expected = [ID, "", "a", "1", "a" * 128, "", "", ""]
        for line, name in zip(lines, expected, strict=True):
            for value in (1.0, 22.0, 22.0):  # the length changes, or the very same head comes again
                await bench.ask(named(line, value))
                await bench.answer_all()
                answer = bench.answers()
                assert answer.count(b"x-request-id:") == bool(name), line
                assert f"x-request-id: {name}\r\n".encode() in answer or not name
        await bench.ask(named(lines[0], 1.0))
        await bench.fail()
        assert f"x-request-id: {ID}\r\n".encode() in bench.answers()
        await bench.ask(named(lines[0], 1.0))
        await bench.expire()
        assert f"x-request-id: {ID}\r\n".encode() in bench.answers()

    run(test)


class Everything:
    """An Observer of all requests."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def skips(self, model: str, traceparent: str) -> bool:
        return False

    def named(self, record: RequestRecord) -> None:
        pass

    def ended(self, record: RequestRecord) -> None:
        self.ids.append(record.request_id)


def test_an_observed_request_without_an_id_gets_one(run: Run) -> None:
    everything = Everything()

    async def test(bench: Bench) -> None:
        await bench.learn()
        for way in (bench.answer_all, bench.fail, bench.expire):
            bench.answers()
            everything.ids.clear()
            await bench.ask(request())
            await way()
            names = [
                re.findall(rb"x-request-id: ([^\r]+)\r\n", b"".join(front.clients[bench.number].transport.history))[-1]
                for front in bench.pair.fronts
            ]
            assert [name.decode() for name in names] == everything.ids
            assert len(set(names)) == 2

    run(test, observer=everything)


def test_an_observed_request_keeps_its_own_id(run: Run) -> None:
    everything = Everything()

    async def test(bench: Bench) -> None:
        await bench.learn()
        everything.ids.clear()
        bench.answers()
        await bench.ask(request().replace(b"host:", f"X-Request-Id: {ID}\r\nhost:".encode(), 1))
        await bench.answer_all()
        assert f"x-request-id: {ID}\r\n".encode() in bench.answers()
        assert everything.ids == [ID, ID]  # two fronts

    run(test, observer=everything)
