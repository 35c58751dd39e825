"""Requests as real clients send them: by kind and dialect, one form to repeat or many that differ.

Many forms differ in all values. What else differs depends on the kind; over REST, so do the client's name, the order of
the keys and the spaces in JSON, since these belong to the client library. Each form knows its right answer.
"""

import json
import struct
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx
import numpy as np
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from benchmarks import captured, models
from benchmarks.h2load import Load
from benchmarks.requests import METHOD
from gateway.generated import open_inference_pb2 as pb

DIALECTS = ("v2_json", "v2_binary", "grpc")
_WIDTH = 16
_MAX_ROWS = 16
_DRAWN = 101  # from which a single form is chosen
_DATATYPES = {"f": {2: "FP16", 4: "FP32"}, "i": {8: "INT64"}, "O": {8: "BYTES"}}
# The first words of header fields that gRPC's library adds by itself.
_OF_GRPC = ("te", "content", "user", "grpc")
# A user agent, the separators of json.dumps, and whether `data` precedes `name`.
_STYLES = (
    ("python-requests/2.32.5", (", ", ": "), False),
    ("python-httpx/0.28.1", (",", ":"), False),
    ("node", (",", ":"), True),
    ("Go-http-client/1.1", (",", ":"), False),
)


@dataclass(frozen=True)
class Request:
    """tensors: by name; BYTES as arrays of objects. style: an index of the client libraries over REST."""

    model: str
    tensors: Mapping[str, np.ndarray]
    id: str = ""
    parameters: Mapping[str, int | str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    style: int = 0


@dataclass(frozen=True)
class Form:
    """expected: the values of the output `y`."""

    load: Load
    expected: np.ndarray


def _datatype(array: np.ndarray) -> str:
    return _DATATYPES[array.dtype.kind][array.dtype.itemsize]


def _raw(array: np.ndarray) -> bytes:
    if array.dtype.kind == "O":
        return b"".join(struct.pack("<I", len(value)) + value for value in array.ravel())
    return array.tobytes()


def _from_raw(data: bytes, like: np.ndarray) -> np.ndarray:
    if like.dtype.kind != "O":
        return np.frombuffer(data, like.dtype).reshape(like.shape)
    found, start = [], 0
    while start < len(data):
        (size,) = struct.unpack_from("<I", data, start)
        found.append(data[start + 4 : start + 4 + size])
        start += 4 + size
    return np.array(found, object).reshape(like.shape)


def _values(array: np.ndarray) -> list[object]:
    if array.dtype.kind == "O":
        return [value.decode() for value in array.ravel()]
    return array.ravel().tolist()


def _rest(port: int, request: Request, tensors: list[dict[str, object]], **more: object) -> tuple[Load, bytes]:
    """Return the load without its body, and the JSON."""
    agent, separators, data_first = _STYLES[request.style]
    if data_first:
        tensors = [dict(reversed(tensor.items())) for tensor in tensors]
    parameters = {**request.parameters, **more}
    message: dict[str, object] = {"id": request.id} if request.id else {}
    message |= {"parameters": parameters} if parameters else {}
    text = json.dumps({**message, "inputs": tensors}, separators=separators, ensure_ascii=False).encode()
    headers = {"user-agent": agent, "accept": "*/*", "content-type": "application/json", **request.headers}
    return Load(f"http://127.0.0.1:{port}/v2/models/{request.model}/infer", b"", headers), text


def v2_json(port: int, request: Request) -> Load:
    tensors = [
        {"name": name, "shape": array.shape, "datatype": _datatype(array), "data": _values(array)}
        for name, array in request.tensors.items()
    ]
    load, text = _rest(port, request, tensors)
    return replace(load, body=text)


def v2_binary(port: int, request: Request) -> Load:
    data = [_raw(array) for array in request.tensors.values()]
    tensors = [
        {
            "name": name,
            "shape": array.shape,
            "datatype": _datatype(array),
            "parameters": {"binary_data_size": len(content)},
        }
        for (name, array), content in zip(request.tensors.items(), data, strict=True)
    ]
    load, text = _rest(port, request, tensors, binary_data_output=True)
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(text))}
    return replace(load, body=b"".join([text, *data]), headers={**load.headers, **headers})


def v2_grpc(port: int, request: Request) -> Load:
    message = pb.ModelInferRequest(model_name=request.model, id=request.id)
    for name, value in request.parameters.items():
        setattr(message.parameters[name], "string_param" if isinstance(value, str) else "int64_param", value)
    for name, array in request.tensors.items():
        message.inputs.add(name=name, datatype=_datatype(array), shape=array.shape)
        message.raw_input_contents.append(_raw(array))
    return Load(f"http://127.0.0.1:{port}{METHOD}", message.SerializeToString(), dict(request.headers), grpc=True)


_ENCODERS: dict[str, Callable[[int, Request], Load]] = dict(zip(DIALECTS, (v2_json, v2_binary, v2_grpc), strict=True))

# How to make a request of each kind, for a dialect, from a generator of random numbers.
Make = Callable[[np.random.Generator, str], Request]


def _floats(random: np.random.Generator, rows: int = 1) -> np.ndarray:
    return random.normal(size=(rows, _WIDTH)).astype(np.float32)


def _plain(random: np.random.Generator, dialect: str) -> Request:
    return Request("tiny", {"x": _floats(random)})


def _ids(random: np.random.Generator, dialect: str) -> Request:
    """Ids, traces, deadlines, priorities and a parameter that the gateway does not know, as clients add them."""
    trace = random.bytes(24).hex()
    headers = {
        "traceparent": f"00-{trace[:32]}-{trace[32:]}-01",
        "x-request-id": str(uuid.UUID(bytes=random.bytes(16))),
    }
    if dialect == "grpc":
        headers["grpc-timeout"] = f"{random.integers(20_000, 60_000)}m"
    parameters = {
        "priority": int(random.integers(1, 4)),
        "timeout": int(random.integers(20_000_000, 60_000_000)),
        "user": f"user-{random.integers(1_000_000)}",
    }
    return Request("tiny", {"x": _floats(random)}, str(uuid.UUID(bytes=random.bytes(16))), parameters, headers)


def _three(random: np.random.Generator, dialect: str) -> Request:
    """In any order of the names, since clients send inputs in an order of their own."""
    return Request("three", {name: _floats(random) for name in random.permutation(["a", "b", "c"]).tolist()})


def _int64(random: np.random.Generator, dialect: str) -> Request:
    digits = 10.0 ** random.uniform(0, 15, size=(1, _WIDTH))
    return Request("int64", {"x": (digits * random.choice([-1, 1], size=digits.shape)).astype(np.int64)})


def _fp16(random: np.random.Generator, dialect: str) -> Request:
    return Request("fp16", {"x": _floats(random).astype(np.float16)})


def _bytes(random: np.random.Generator, dialect: str) -> Request:
    letters = list("abcdefghijklmnopqrstuvwxyz      ,.éß漢")
    texts = ["".join(random.choice(letters, size=random.integers(1, 60))).encode() for _ in range(4)]
    return Request("bytes", {"x": np.array(texts, object).reshape(1, 4)})


def _sizes(random: np.random.Generator, dialect: str) -> Request:
    return Request("tiny", {"x": _floats(random, int(random.integers(1, _MAX_ROWS + 1)))})


_KINDS: dict[str, Make] = {
    "plain": _plain, "ids": _ids, "three": _three, "INT64": _int64, "FP16": _fp16, "BYTES": _bytes, "sizes": _sizes,
}  # fmt: skip
KINDS = (*_KINDS, "tritonclient")


def make_models(repository: Path) -> list[str]:
    """Write the models of all kinds, and return their names."""
    models.tiny_mlp(repository / "tiny" / "1" / "model.onnx")
    models.sum_of_three(repository / "three" / "1" / "model.onnx", _WIDTH)
    models.identity(repository / "int64" / "1" / "model.onnx", TensorProto.INT64, _WIDTH)
    models.identity(repository / "fp16" / "1" / "model.onnx", TensorProto.FLOAT16, _WIDTH)
    models.identity(repository / "bytes" / "1" / "model.onnx", TensorProto.STRING, 4)
    return ["tiny", "three", "int64", "fp16", "bytes"]


def make_forms(repository: Path, kind: str, dialect: str, count: int, client: Path | None = None) -> list[Form]:
    """Return `count` different forms; a single one is that of median size. Their URLs name no server yet: see `at`.

    client: an interpreter with tritonclient, for that kind.
    """
    random = np.random.default_rng(0)
    drawn = count if count > 1 else _DRAWN
    if kind == "tritonclient":
        rows = random.normal(size=(drawn, _WIDTH)).astype(np.float32)
        loads = captured.tritonclient(client, dialect, rows)
        requests = [Request("tiny", {"x": row[None]}) for row in rows]
    else:
        requests = [_KINDS[kind](random, dialect) for _ in range(drawn)]
        if count > 1:
            requests = [replace(request, style=index % len(_STYLES)) for index, request in enumerate(requests)]
        loads = [_ENCODERS[dialect](0, request) for request in requests]
    every = list(zip(loads, requests, strict=True))
    if count == 1:
        every = [sorted(every, key=lambda each: len(each[0].body))[drawn // 2]]
    model = ReferenceEvaluator(str(repository / every[0][1].model / "1" / "model.onnx"))
    return [Form(load, np.asarray(model.run(None, dict(request.tensors))[0])) for load, request in every]


def at(port: int, form: Form) -> Form:
    """Return the form for the server at this port."""
    url = urlsplit(form.load.url)
    host = f"127.0.0.1:{port}"
    headers = {
        name: host if name.lower() in ("host", ":authority") else value for name, value in form.load.headers.items()
    }
    return replace(form, load=replace(form.load, url=f"http://{host}{url.path}", headers=headers))


def check(forms: Sequence[Form]) -> None:
    """Raises AssertionError unless the server that the forms are for gives the right answers."""
    with ExitStack() as stack:
        if forms[0].load.grpc:
            channel = stack.enter_context(grpc.insecure_channel(urlsplit(forms[0].load.url).netloc))
            answer = partial(_grpc_answer, channel.unary_unary(METHOD))
        else:
            answer = partial(_rest_answer, stack.enter_context(httpx.Client(timeout=60)))
        for form in forms:
            values, right = answer(form.load, form.expected), form.expected
            if right.dtype.kind == "f":
                np.testing.assert_allclose(values, right, rtol=1e-3, atol=1e-4)
            else:
                np.testing.assert_array_equal(values, right)


def _grpc_answer(call: Callable[..., bytes], load: Load, like: np.ndarray) -> np.ndarray:
    metadata = [(k, v) for k, v in load.headers.items() if k[0] != ":" and k.partition("-")[0] not in _OF_GRPC]
    answer = pb.ModelInferResponse.FromString(call(load.body, metadata=metadata))
    return _from_raw(answer.raw_output_contents[0], like)


def _rest_answer(client: httpx.Client, load: Load, like: np.ndarray) -> np.ndarray:
    response = client.post(load.url, content=load.body, headers=dict(load.headers))
    assert response.status_code == 200, response.text
    size = response.headers.get("inference-header-content-length")
    if size:
        return _from_raw(response.content[int(size) :], like)
    data = response.json()["outputs"][0]["data"]
    data = [value.encode() for value in data] if like.dtype.kind == "O" else data
    return np.array(data, like.dtype).reshape(like.shape)
