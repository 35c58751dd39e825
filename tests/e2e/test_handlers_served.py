"""Archives' handlers, which a gateway with --allow-python runs: Multi Model Server's, SageMaker's and TorchServe's.

The first two are served by a real gateway. TorchServe's needs an environment with PyTorch, so it is run in that of the
runtime, beside TorchServe's own server code.
"""

import gzip
import http.client
import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_archives_served import HERE, TORCHSERVE, run
from tests.support import ROOT
from tests.support.client_environments import client_python
from tests.support.gateway_process import Gateway, Reply, start_gateway
from tests.support.image_files import form
from tests.support.protocols import PROTOCOLS

SERVICE = """
import gzip, os, sys
from mms.service import PredictionException

def handle(data, context):
    if data is None:
        with open("words.txt") as file:
            handle.words = file.read().split()
        with open("scratch.txt", "w") as file:
            file.write("handlers may write next to their files")
        return None
    answers = []
    for index, fields in enumerate(data):
        kind = context.get_request_header(index, "Kind")
        if kind == "raise":
            raise ValueError("a secret")
        if kind == "refuse":
            raise PredictionException("there are no such words", 404)
        if kind == "exit":
            sys.exit(1)
        if kind == "die":
            os._exit(1)
        if kind == "hang":
            while True:
                pass
        if kind == "few":
            return []
        if kind == "unserializable":
            answers.append({1, 2})
        elif kind == "bytes":
            context.set_response_content_type(index, "image/png")
            answers.append(b"\\x00\\x89")
        elif kind == "status":
            context.set_response_status(201, "made", index)
            context.set_response_header(index, "X-Own", "a b")
            answers.append("m\\u00fct")
        elif kind == "packed":
            context.set_response_header(index, "Content-Encoding", "gzip")
            context.set_response_header(index, "Date", "today")
            answers.append(gzip.compress(b"words" * 1_000_000))
        elif kind == "nothing":
            context.set_response_status(204, "", index)
            answers.append("not sent")
        elif kind == "smuggle":
            context.set_response_header(index, "X-Own", "a\\r\\nSet-Cookie: b")
            answers.append("x")
        else:
            said = {}
            for name, value in fields.items():
                said[name] = value.decode("latin-1") if isinstance(value, bytearray) else value
            answers.append({"rows": len(data), "words": handle.words, "fields": said})
    return answers
"""
INFERENCE = """
import json

def model_fn(model_dir):
    with open(model_dir + "/factor.json") as file:
        return json.load(file)

def input_fn(body, content_type):
    if content_type != "application/json":
        raise ValueError("not JSON")
    return json.loads(body)

def predict_fn(data, model):
    return [model * each for each in data]

def output_fn(prediction, accept):
    return ",".join(map(str, prediction)), "text/csv"
"""
WORDS = ["red", "green"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    source, store = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("store")
    (source / "service.py").write_text(SERVICE)
    (source / "words.txt").write_text("red green")
    (store / "words" / "1").mkdir(parents=True)
    archiver = client_python("model-archiver", "model-archiver==1.0.3").with_name("model-archiver")
    run(
        archiver, "--model-name", "words", "--model-path", source, "--handler", "service:handle",
        "--export-path", store / "words" / "1",
    )  # fmt: skip
    (store / "words" / "model.toml").write_text("max_batch_size = 4\nexecution_timeout_s = 2\n")
    (store / "scaled" / "1").mkdir(parents=True)
    with tarfile.open(store / "scaled" / "1" / "model.tar.gz", "w:gz") as tar:
        for name, text in {"factor.json": "3", "code/inference.py": INFERENCE}.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    started = start_gateway(store, tmp_path_factory.mktemp("gateway"), "--allow-python").wait_ready()
    yield started
    started.close()


def ask(gateway: Gateway, body: bytes = b"x", **headers: str) -> Reply:
    return gateway.post("/predictions/words", body, {"Content-Type": "application/octet-stream", **headers})


def test_a_handler_gets_bodies_forms_and_json_as_its_server_gives_them(gateway: Gateway) -> None:
    def said(body: bytes, content_type: str) -> Any:
        reply = ask(gateway, body, **{"Content-Type": content_type})
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
        assert reply.body == json.dumps(reply.json(), indent=2).encode()
        assert (reply.json()["rows"], reply.json()["words"]) == (1, WORDS)
        return reply.json()["fields"]

    assert said(b"\xff\x00", "application/octet-stream") == {"body": "\xff\x00"}
    assert said(b'{"a": 1}', "application/json; charset=utf-8") == {"body": {"a": 1}}
    assert said(b"{", "application/json") == {"body": "{"}
    assert said("h\u00fc".encode(), "text/plain") == {"body": "h\u00fc"}
    assert said(b"a=1&b=x%20y", "application/x-www-form-urlencoded") == {"a": "1", "b": "x y"}
    parts = [
        b'Content-Disposition: form-data; name="a"\r\n\r\n\r\n--x\r\n',
        b'Content-Disposition: form-data; name="j"; filename="f"\r\nContent-Type: application/json\r\n\r\n{"k": 2}',
    ]
    body = b"".join(b"--limit\r\n" + part + b"\r\n" for part in parts) + b"--limit--\r\n"
    assert said(body, "multipart/form-data; boundary=limit") == {"a": "\r\n--x\r\n", "j": {"k": 2}}
    body, headers = form(b"one")
    assert said(body, headers["Content-Type"]) == {"data": "one"}
    assert ask(gateway, b"--limit\r\nno", **{"Content-Type": "multipart/form-data; boundary=limit"}).status == 400


def test_an_answer_is_the_handlers_own_byte_for_byte(gateway: Gateway) -> None:
    reply = ask(gateway, Kind="bytes")
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, b"\x00\x89", "image/png")
    reply = ask(gateway, Kind="status")
    assert (reply.status, reply.body, reply.headers["x-own"]) == (201, "m\u00fct".encode(), "a b")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    reply = ask(gateway, Kind="nothing")
    assert (reply.status, reply.body, "content-length" in reply.headers) == (204, b"", False)
    for accepted in ("gzip", "identity"):
        headers = {"Content-Type": "text/plain", "Kind": "packed", "Accept-Encoding": accepted}
        connection = http.client.HTTPConnection(gateway.http, timeout=60)
        connection.request("POST", "/predictions/words", b"x", headers)
        raw = connection.getresponse()
        assert gzip.decompress(raw.read()) == b"words" * 1_000_000
        assert (raw.headers.get_all("content-encoding"), len(raw.headers.get_all("date", []))) == (["gzip"], 1)
        connection.close()
    reply = ask(gateway, Kind="smuggle")
    assert (reply.status, "set-cookie" in reply.headers) == (500, False)


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        ("raise", 500, "the model failed on this request"),
        ("refuse", 400, "there are no such words"),
        ("exit", 500, "the model failed on this request"),
        ("few", 500, "the model failed on this request"),
        ("unserializable", 500, "the model failed on this request"),
        ("hang", 500, "the model's worker died"),
        ("die", 500, "the model's worker died"),
    ],
)
def test_a_handler_that_fails_harms_nothing_else(gateway: Gateway, kind: str, status: int, message: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        failed, *others = pool.map(lambda each: ask(gateway, Kind=each), [kind, "bytes", "bytes", "bytes"])
    assert failed.status == status
    assert set(failed.json()) == {"code", "type", "message"}
    assert failed.json()["code"] == status
    assert message in failed.json()["message"]
    assert "secret" not in failed.body.decode()
    assert [each.body for each in others] == [b"\x00\x89"] * 3
    assert ask(gateway, Kind="bytes").status == 200


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS.keys() - {"torchserve"}))
def test_over_every_protocol_a_row_is_a_body(gateway: Gateway, protocol: str) -> None:
    import numpy as np

    rows = np.array([b"a", b"b", b"c"], object)
    answer = PROTOCOLS[protocol](gateway, "words", {"body": rows})
    assert list(answer) == ["response"]
    expected = [{"rows": 3, "words": WORDS, "fields": {"body": name}} for name in "abc"]
    assert [json.loads(each) for each in answer["response"]] == expected


def test_sagemakers_functions_answer(gateway: Gateway) -> None:
    for path in ("/predictions/scaled", "/predictions/scaled/1", "/invocations"):
        headers = {"Content-Type": "application/json", "X-Amzn-SageMaker-Target-Model": "scaled"}
        reply = gateway.post(path, b"[1, 2]", headers)
        assert (reply.status, reply.body, reply.headers["content-type"]) == (200, b"3,6", "text/csv")
    assert gateway.post("/predictions/scaled", b"1", {"Content-Type": "text/csv"}).status == 500
    reply = gateway.post("/predictions/scaled", b"\xff", {"Content-Type": "application/json"})
    assert (reply.status, reply.json()["message"]) == (400, "the body is not UTF-8, which 'application/json' must be")


def test_torchserves_handler_gets_and_returns_what_its_server_does(
    runtime_environment: Callable[[str], Any], tmp_path: Path
) -> None:
    torch = runtime_environment("torchscript").python
    tools = client_python("torchserve", *TORCHSERVE, alone=("torchvision==0.28.0", "torchserve==0.12.0"))
    (packages,) = tools.parent.parent.glob("lib/python3*/site-packages")
    done = subprocess.run(
        [torch, "-I", HERE / "torchserve_handler_script.py", ROOT, packages, tools.with_name("torch-model-archiver")],
        capture_output=True, text=True, timeout=240, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answers of 7 kinds are the same" in done.stdout
