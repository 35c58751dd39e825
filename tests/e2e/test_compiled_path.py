"""With the compiled fast path, a gateway answers byte for byte what it answers without: to right and wrong requests.

Each form of a request is sent several times, with other values, ids and headers, because the fast path takes a form
only once the Python code has read it.
"""

import json
import re
import socket
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any, NamedTuple

import grpc
import pytest

from runtimes.contract import DATATYPES
from tests.support.bad_inputs import Subject, bad_calls, bad_requests
from tests.support.environments import skip_or_fail
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_fake
from tests.support.v2_calls import Call, Value, as_binary, as_json, as_message

ROUNDS = 12
# How often a wrong or damaged request is sent, unless it has more bytes.
REPEATED, LARGE = 4, 10_000
SUBJECT = Subject()
# The datatypes of each model's inputs x, x1, x2 …, which its outputs y, y1, y2 … are twice.
MODELS = {
    SUBJECT.floats: ("FP32",),
    SUBJECT.integers: (SUBJECT.integer_datatype,),
    "integers": ("INT64",),
    "halves": ("FP16",),
    "texts": ("BYTES",),
    "mixed": ("FP32", "INT64", "BYTES"),
    "all": tuple(each.name for each in DATATYPES.values() if each.typestr is not None),
}
FLOATS = (0.0, -0.0, 0.1, -1.5, 3, 1e-7, 1.0000001, 2049.5, 32760)
# Elements by which the fake model fails; see runtimes/fake/runtime.py.
FAILURES = (400, 500, 501, 507)


class Pair(NamedTuple):
    compiled: Gateway
    python: Gateway


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    scratch = tmp_path_factory.mktemp("pair")
    for model, datatypes in MODELS.items():
        kinds = {"inputs": "x", "outputs": "y"}
        described = {kind: [_spec(letter, *each) for each in enumerate(datatypes)] for kind, letter in kinds.items()}
        add_fake(scratch / "repository", model, toml="priority_levels = 3\n", **described)
    made = []
    for setting in ("true", "false"):
        folder = scratch / setting
        folder.mkdir()
        made.append(start_gateway(scratch / "repository", folder, MODELPORT_FAST_PATH=setting))
    pair = Pair(*(each.wait_ready() for each in made))
    if missing := [line for line in pair.compiled.log if "the fast path" in line]:
        skip_or_fail(missing[0])
    yield pair
    for each in pair:
        each.close()


def _spec(letter: str, position: int, datatype: str) -> dict[str, Any]:
    return {"name": _name(letter, position), "datatype": datatype, "shape": [-1, 3]}


def _name(letter: str, position: int) -> str:
    return f"{letter}{position or ''}"


def element(random: Random, datatype: str) -> Any:
    if datatype == "BYTES":
        return random.choice(("", "a", "two words", 'quotes"', "back\\slash", "grüße", "x" * random.randrange(40)))
    if datatype == "BOOL":
        return random.random() < 0.5
    if datatype.startswith("FP"):
        return random.choice(FLOATS) if random.random() < 0.5 else round(random.uniform(-9, 9), random.randrange(6))
    return random.randrange(0 if datatype.startswith("U") else -99, 100)


def value(random: Random, name: str, datatype: str, rows: int) -> Value:
    elements = [element(random, datatype) for _ in range(3 * rows)]
    return Value(name, datatype, (rows, 3), elements)


def call(random: Random, model: str, rows: int = 1, identified: bool = False, **more: Any) -> Call:
    if identified:
        more["id"] = f"{random.getrandbits(4 * random.randrange(1, 16)):x}"
    inputs = (value(random, _name("x", position), each, rows) for position, each in enumerate(MODELS[model]))
    return Call(model, tuple(inputs), **more)


def calls(random: Random) -> Iterator[Call]:
    """One call of each form, with new values and ids."""
    for model in MODELS:
        yield call(random, model)
        yield call(random, model, rows=3, identified=True)
    mixed = partial(call, random, "mixed")
    yield from (mixed(), mixed(identified=True), mixed(version="1"), mixed(outputs=("y1",)), mixed(outputs=("y2", "y")))
    yield mixed(parameters={"timeout": 60_000_000})
    yield mixed(parameters={"priority": random.randrange(1, 4)}, identified=True)
    yield mixed(parameters={"trace": random.random()}, rows=2)
    yield mixed(parameters={"tenant": "a" * random.randrange(9), "debug": random.random() < 0.5})
    failing = Value("x", "FP32", (1, 3), [1.5, random.choice(FAILURES), 2.5])
    yield Call(SUBJECT.floats, (failing,))


def over_http(random: Random, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    more = random.choice(
        (
            {},
            {},
            {"User-Agent": "test"},
            {"traceparent": f"00-{random.getrandbits(128):032x}-01"},
            {"X-Request-Id": path},
        )
    )
    lines = [f"{name}: {setting}" for name, setting in {**more, **headers, "Content-Length": len(body)}.items()]
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: test", *lines, "", ""]).encode() + body


def http_requests(random: Random) -> Iterator[bytes]:
    for each in calls(random):
        yield over_http(random, each.path, as_json(each), {"Content-Type": "application/json"})
        body, headers = as_binary(each)
        yield over_http(random, each.path, body, headers)
        spaced = json.dumps(json.loads(as_json(each)), indent=random.randrange(3)).encode()
        yield over_http(random, each.path, spaced, {})
        yield from (over_http(random, path, json.dumps(body).encode(), {}) for path, body in named_values(each))


def named_values(each: Call) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same inputs in the plain dialect and in TensorFlow Serving's."""
    columns = {value.name: [value.data[at : at + 3] for at in range(0, len(value.data), 3)] for value in each.inputs}
    more = {"outputs": list(each.outputs)} if each.outputs else {}
    yield f"/predict/{each.model}", {"inputs": columns, "parameters": dict(each.parameters), **more}
    yield f"/v1/models/{each.model}:predict", {"inputs": columns}
    if len(columns) == 1:
        [rows] = columns.values()
        yield f"/predict/{each.model}", {"instances": rows}
        yield f"/v1/models/{each.model}:predict", {"instances": rows}


class Connection:
    """An HTTP connection that is opened again when the server has closed it."""

    def __init__(self, gateway: Gateway) -> None:
        self._address = gateway.http.rsplit(":", 1)
        self._socket: socket.socket | None = None

    def ask(self, requests: list[bytes], cuts: list[int]) -> list[bytes]:
        """Send these in one stream, cut there into pieces. Return the answers, without their dates."""
        if self._socket is None:
            self._socket = socket.create_connection((self._address[0], int(self._address[1])), timeout=60)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._file = self._socket.makefile("rb")
        stream = b"".join(requests)
        for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            self._socket.sendall(stream[start:stop])
        return [self._answer() for _ in requests]

    def _answer(self) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self._file.readline()
            assert line, "the connection was closed without an answer"
            head += line if not line.lower().startswith(b"date:") else b""
        found = re.search(rb"content-length: (\d+)", head, re.I)
        assert found is not None, head
        if b"connection: close" in head.lower():
            self.close()
        return head + self._file.read(int(found[1]))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()  # the file keeps what it is still to read
            self._socket = None


def compare_http(pair: Pair, requests: list[bytes], random: Random | None = None) -> None:
    """Send the requests to both gateways, one after the other; with `random`, several at once, in pieces."""
    ours = [Connection(each) for each in pair]
    while requests:
        count, cuts = 1, []
        if random is not None:
            count = random.randrange(1, 8)
            cuts = sorted(random.sample(range(sum(map(len, requests[:count]))), random.randrange(4)))
        asked, requests = requests[:count], requests[count:]
        compiled, python = (each.ask(asked, cuts) for each in ours)
        for request, with_it, without in zip(asked, compiled, python, strict=True):
            assert with_it == without, (request, cuts)
    for each in ours:
        each.close()


def mutated(random: Random, text: bytes, least: int = 0) -> bytes:
    """The same with one to three other bytes, from that position on."""
    changed = bytearray(text)
    for _ in range(random.randrange(1, 4)):
        changed[random.randrange(least, len(changed))] = random.choice(b'09-.eE"[]{},: \n\x00\xff' + text[least:])
    return bytes(changed)


def test_requests_over_http_are_answered_the_same(pair: Pair) -> None:
    random = Random(16)
    for _ in range(ROUNDS):
        requests = list(http_requests(random))
        compare_http(pair, requests)
        random.shuffle(requests)
    compare_http(pair, requests, random)


def test_damaged_requests_over_http_are_answered_the_same(pair: Pair) -> None:
    random = Random(17)
    for _ in range(2):
        requests = list(http_requests(random))
        damaged = [mutated(random, each, each.index(b"\r\n\r\n") + 4) for each in requests]
        compare_http(pair, [*requests, *(each for each in damaged for _ in range(REPEATED))])


def test_wrong_requests_over_http_are_answered_the_same(pair: Pair) -> None:
    random = Random(18)
    wrong = [bad for bad in bad_requests(SUBJECT) for _ in range(1 if len(bad.body) > LARGE else REPEATED)]
    requests = [over_http(random, bad.path, bad.body, bad.headers) for bad in wrong]
    compare_http(pair, requests)


def outcome(call: Any) -> Any:
    try:
        return call.result()
    except grpc.RpcError as error:
        return error.code(), error.details()


def compare_grpc(pair: Pair, requests: list[tuple[str, bytes]], at_once: int) -> None:
    path = "/inference.GRPCInferenceService/"
    with grpc.insecure_channel(pair.compiled.grpc) as compiled, grpc.insecure_channel(pair.python.grpc) as python:
        for start in range(0, len(requests), at_once):
            asked = requests[start : start + at_once]
            answers = [
                [channel.unary_unary(path + method).future(message, timeout=60) for method, message in asked]
                for channel in (compiled, python)
            ]
            for request, with_it, without in zip(asked, *answers, strict=True):
                assert outcome(with_it) == outcome(without), request


def grpc_messages(random: Random) -> Iterator[bytes]:
    for each in calls(random):
        for raw in (True, False):
            if raw or not {"FP16", "BYTES"} & {one.datatype for one in each.inputs}:  # no typed contents, and no text
                yield as_message(each, raw).SerializeToString(deterministic=True)


def test_requests_over_grpc_are_answered_the_same(pair: Pair) -> None:
    random = Random(19)
    for _ in range(ROUNDS):
        compare_grpc(pair, [("ModelInfer", each) for each in grpc_messages(random)], at_once=8)


def test_damaged_requests_over_grpc_are_answered_the_same(pair: Pair) -> None:
    random = Random(20)
    for _ in range(2):
        damaged = [mutated(random, each) for each in list(grpc_messages(random))]
        compare_grpc(pair, [("ModelInfer", each) for each in damaged for _ in range(REPEATED)], at_once=1)


def test_wrong_requests_over_grpc_are_answered_the_same(pair: Pair) -> None:
    wrong = []
    for bad in bad_calls(SUBJECT):
        message = bad.message if isinstance(bad.message, bytes) else bad.message.SerializeToString()
        wrong += [(bad.method, message)] * (1 if len(message) > LARGE else REPEATED)
    compare_grpc(pair, wrong, at_once=1)


COUNTED = (
    "modelport_requests_total|modelport_inference_rows_total|modelport_requests_in_flight|modelport_requests_queued|"
    "modelport_(?:request|queue|compute_infer)_duration_seconds_count"
)


def test_requests_are_counted_the_same(pair: Pair) -> None:
    """After all of the above, in this order."""
    compiled, python = (
        sorted(re.findall(rf"^(?:{COUNTED})\{{.*$", each.get("/metrics").body.decode(), re.M)) for each in pair
    )
    assert compiled
    assert compiled == python
