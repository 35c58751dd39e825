"""Requests that are wrong, and what each must be answered: for the fronts with a fake engine, and end to end.

for bad in bad_requests(SUBJECT): check_reply(bad, status, body)     REST
for bad in bad_calls(SUBJECT):    check_status(bad, code, details)   gRPC
"""

import gzip
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.support.v2_calls import Call, Value, as_binary, as_json, as_message

INVALID, NOT_FOUND = "INVALID_ARGUMENT", "NOT_FOUND"
_STATUS = {INVALID: 400, NOT_FOUND: 404, "UNIMPLEMENTED": 501}


@dataclass(frozen=True)
class Subject:
    """The models to try on: each has one input and one output, of shape [-1, width]."""

    floats: str = "doubler"
    integers: str = "small"
    input: str = "x"
    output: str = "y"
    width: int = 3
    integer_datatype: str = "INT8"


@dataclass(frozen=True)
class BadRequest:
    """`says`: a part of the sentence."""

    id: str
    path: str
    body: bytes
    says: str
    status: int = 400
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BadCall:
    id: str
    method: str
    message: bytes
    says: str
    code: str = INVALID


def check_reply(bad: BadRequest, status: int, body: bytes) -> None:
    assert status == bad.status, (bad.id, status, body[:300])
    document = json.loads(body)
    assert set(document) == {"error"}, bad.id
    _check_sentence(bad.id, document["error"], bad.says)


def check_status(bad: BadCall, code: str, details: str) -> None:
    assert code == bad.code, (bad.id, code, details)
    _check_sentence(bad.id, details, bad.says)


def _check_sentence(case: str, text: str, says: str) -> None:
    assert says in text, (case, text)
    assert text.strip() == text, (case, text)
    assert "\n" not in text, (case, text)
    assert len(text) <= 1001, (case, len(text))
    assert "Traceback" not in text, (case, text)
    assert ".py" not in text, (case, text)
    assert not re.search(r"(^|[\s'\"(])/(?!predict/|docs)\w+/", text), (case, text)


def bad_requests(subject: Subject) -> list[BadRequest]:
    return [*_shared_requests(subject), *_v2_json(subject), *_v2_binary(subject), *_predict(subject), *_numpy(subject)]


def bad_calls(subject: Subject) -> list[BadCall]:
    return [*_shared_calls(subject), *_grpc_only(subject)]


def good_call(subject: Subject) -> Call:
    return Call(subject.floats, (Value(subject.input, "FP32", (1, subject.width), [1.0] * subject.width),))


def _shared(subject: Subject) -> Iterator[tuple[str, Call, str, str]]:
    """What is wrong in every protocol and form: id, call, part of the sentence, gRPC's code."""
    model, x, width = subject.floats, subject.input, subject.width
    row = [1.0] * width
    good = Value(x, "FP32", (1, width), row)

    def one(*shape: int, data: list[Any] = row, datatype: str = "FP32") -> Call:
        return Call(model, (Value(x, datatype, shape, data),))

    yield "unknown model", Call("nosuch", (good,)), "nosuch", NOT_FOUND
    yield "unknown version", Call(model, (good,), version="99"), "99", NOT_FOUND
    yield "unknown input", Call(model, (Value("nosuch", "FP32", (1, width), row),)), "no input 'nosuch'", INVALID
    yield "missing input", Call(model), f"input '{x}' is missing", INVALID
    yield "input twice", Call(model, (good, good)), "given twice", INVALID
    yield "unknown output", Call(model, (good,), outputs=("nosuch",)), "no output 'nosuch'", INVALID
    yield "output twice", Call(model, (good,), outputs=(subject.output,) * 2), "requested twice", INVALID
    yield "output with a long name", Call(model, (good,), outputs=("n" * 70_000,)), "name has 70000", INVALID
    yield "wrong datatype", one(1, width, data=[1] * width, datatype="INT64"), "datatype INT64, expected FP32", INVALID
    yield "unknown datatype", one(1, width, datatype="FLOAT"), "datatypes are", INVALID
    yield "datatype without a standard", one(1, width, datatype="FP8"), "datatypes are", INVALID
    yield "no datatype", one(1, width, datatype=""), "datatypes are", INVALID
    yield "wrong rank", one(width), f"shape [{width}]", INVALID
    yield "wrong dimension", one(1, width + 1, data=[*row, 1.0]), f"shape [1, {width + 1}]", INVALID
    yield "too little data", one(2, width), "of data", INVALID
    yield "too much data", one(1, width, data=row * 2), "of data", INVALID
    yield "zero rows", one(0, width, data=[]), "0 rows", INVALID
    yield "no data", one(1, width, data=[]), "of data", INVALID
    yield "negative shape", one(-1, width), "negative", INVALID
    yield "doubly negative shape", one(-1, -width), "negative", INVALID
    yield "overflowing shape", one(2**62, 2**62), "shape", INVALID
    yield "overflow to nothing", one(0, 2**62, 2**62, data=[]), "shape", INVALID
    yield "huge rows", one(2**62, width), "shape", INVALID
    yield "too many dimensions", one(*[1] * 33, data=[1.0]), "33 dimensions", INVALID
    yield "very many dimensions", one(*[2**62] * 5000), "5000 dimensions", INVALID
    yield "unknown signature", Call(model, (good,), parameters={"signature": "nosuch"}), "'nosuch'", INVALID
    yield "signature of a wrong type", Call(model, (good,), parameters={"signature": 1}), "'signature'", INVALID
    yield "negative timeout", Call(model, (good,), parameters={"timeout": -1}), "'timeout'", INVALID
    yield "timeout in words", Call(model, (good,), parameters={"timeout": "1s"}), "'timeout'", INVALID
    yield "priority in words", Call(model, (good,), parameters={"priority": "high"}), "'priority'", INVALID
    yield "priority of a fraction", Call(model, (good,), parameters={"priority": 1.5}), "'priority'", INVALID
    yield "long id and unknown model", Call("m" * 3000, (good,), id="i" * 3000), "there is no model", NOT_FOUND


def _shared_requests(subject: Subject) -> Iterator[BadRequest]:
    for case, call, says, code in _shared(subject):
        yield BadRequest(f"json: {case}", call.path, as_json(call), says, _STATUS[code])
        body, headers = as_binary(call)
        yield BadRequest(f"binary: {case}", call.path, body, says, _STATUS[code], headers)


def _shared_calls(subject: Subject) -> Iterator[BadCall]:
    for case, call, says, code in _shared(subject):
        yield BadCall(f"typed: {case}", "ModelInfer", as_message(call, raw=False).SerializeToString(), says, code)
        if call.inputs:
            yield BadCall(f"raw: {case}", "ModelInfer", as_message(call, raw=True).SerializeToString(), says, code)


def _v2_json(subject: Subject) -> Iterator[BadRequest]:
    width = subject.width
    row = [1.0] * width
    path, small = f"/v2/models/{subject.floats}/infer", f"/v2/models/{subject.integers}/infer"

    def body(data: Any, shape: Any = (1, width), **more: Any) -> bytes:
        tensor = {"name": subject.input, "datatype": "FP32", "shape": shape, "data": data} | more
        return json.dumps({"inputs": [tensor]}).encode()

    def case(name: str, content: bytes, says: str, where: str = path, status: int = 400) -> BadRequest:
        return BadRequest(f"v2: {name}", where, content, says, status)

    yield case("no body", b"", "not valid JSON")
    yield case("not JSON", b"{inputs", "not valid JSON")
    yield case("cut off", body([row])[:-5], "not valid JSON")
    yield case("not UTF-8", b'{"inputs": "\xff"}', "not valid JSON")
    yield case("half a surrogate", b'{"id": "\\ud800", "inputs": [NaN]}', "not valid UTF-8")
    yield case("huge integer", b'{"inputs": [' + b"9" * 5000 + b", NaN]}", "too many digits")
    yield case("number beyond FP64", b'{"inputs": [1e999]}', "not valid JSON")
    yield case("nested 100000 deep", b"[" * 100_000 + b"]" * 100_000, "not valid JSON")
    yield case("nested 100000 deep with NaN", b"[" * 100_000 + b"NaN" + b"]" * 100_000, "nested too deep")
    yield case("data nested 500 deep", body([]).replace(b"[]", b"[" * 500 + b"]" * 500), "nested too deep")
    yield case("a list", b"[]", "must be a JSON object")
    yield case("null", b"null", "must be a JSON object")
    yield case("a number", b"3", "must be a JSON object")
    yield case("no inputs", b"{}", "has no 'inputs'")
    yield case("inputs null", b'{"inputs": null}', "'inputs'")
    yield case("inputs an object", b'{"inputs": {}}', "must be a list")
    yield case("input a number", b'{"inputs": [1]}', "inputs[0] must be an object")
    yield case("input without a name", b'{"inputs": [{}]}', "inputs[0] has no 'name'")
    yield case("name a number", body([row], name=1), "'name'")
    yield case("datatype a list", body([row], datatype=[]), "'datatype'")
    yield case("shape a string", body([row], shape="1"), "'shape'")
    yield case("shape with fractions", body([row], shape=[1.0, width]), "whole numbers")
    yield case("shape with true", body([row], shape=[True, width]), "whole numbers")
    yield case("shape beyond 64 bits", body([row], shape=[2**70, 0]), "shape")
    yield case("very long shape", body([row], shape=[2**62] * 10_000), "10000 dimensions")
    yield case("no data", body([row]).replace(b'"data"', b'"date"'), "has no data")
    yield case("data null", body(None), "has no data")
    yield case("data an object", body({}), "must be a list")
    yield case("data a string", body("1.5"), "must be a list")
    yield case("ragged", body([[1.0], row]), "ragged")
    yield case("values beside lists", body([1.0, [1.0]]), "ragged")
    yield case("lists beside values", body([[1.0], 1.0]), "ragged")
    yield case("an empty list beside a full one", body([[], row]), "ragged")
    yield case("nested otherwise", body([row, row], shape=(1, 2 * width)), "nested as")
    yield case("strings for numbers", body([["1.5"] * width]), "a string")
    yield case("one string among numbers", body([[*row[1:], "1.5"]]), "a string")
    yield case("null among numbers", body([[*row[1:], None]]), "null")
    yield case("true among numbers", body([[*row[1:], True]]), "true or false")
    yield case("object among numbers", body([[*row[1:], {}]]), "an object")
    yield case("beyond FP32", body([[*row[1:], 1e39]]), "too large for FP32")
    yield case("beyond FP32, negative", body([[*row[1:], -1e300]]), "too large for FP32")
    yield case("integer beyond FP64", body([[*row[1:], 10**400, float("nan")]], (1, width + 1)), "too large for FP32")
    yield case("parameters a list", b'{"inputs": [], "parameters": []}', "'parameters'")
    beyond = b'{"inputs": [], "parameters": {"timeout": %d}}' % (1 << 63)
    yield case("timeout beyond 64 bits", beyond, "'timeout'")
    # Beside a literal that sends the body to the reader which takes integers of any length.
    endless = b'{"inputs": [NaN], "parameters": {"timeout": %d}}' % (10**400)
    yield case("timeout of 400 digits", endless, "'timeout'")
    yield case("id a number", b'{"inputs": [], "id": 7}', "'id'")
    yield case("outputs an object", b'{"inputs": [], "outputs": {}}', "'outputs'")
    yield case("output a string", b'{"inputs": [], "outputs": ["y"]}', "outputs[0] must be an object")
    yield case("output without a name", b'{"inputs": [], "outputs": [{}]}', "has no 'name'")
    for count in (b"0", b"-1", b"true", b"1.5", b'"3"'):
        classified = b'{"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": %b}}]}' % count
        yield case(f"classification {count.decode()}", classified, "a whole number of at least 1")
    region = {"shared_memory_region": "r", "shared_memory_byte_size": 4 * subject.width}
    in_region = {"name": subject.input, "shape": [1, subject.width], "datatype": "FP32", "parameters": region}
    yield case(
        "shared memory", json.dumps({"inputs": [in_region]}).encode(), "shared memory is switched off", status=501
    )
    yield case("shared memory and data", body([row], parameters=region), "both data and a shared_memory_region")
    for name, parameters, says in (
        ("no size", {"shared_memory_region": "r"}, "without shared_memory_byte_size"),
        ("no name", {**region, "shared_memory_region": 1}, "as a string"),
        ("half a byte", {**region, "shared_memory_offset": 0.5}, "whole numbers"),
    ):
        wrong = json.dumps({"inputs": [{**in_region, "parameters": parameters}]}).encode()
        yield case(f"shared memory, {name}", wrong, says)
    sized = body([row], parameters={"binary_data_size": 4})
    yield case("binary size without the header", sized, "Inference-Header-Content-Length")
    limits = np.iinfo(np.dtype(subject.integer_datatype.lower()))
    for name, value, says in (
        ("too large", int(limits.max) + 1, "out of the range"),
        ("too small", int(limits.min) - 1, "out of the range"),
        ("beyond 64 bits", 2**64, "beyond 64 bits"),
        ("a fraction", 1.5, "a fraction"),
        ("a whole float", 1.0, "a fraction"),
        ("true", True, "true or false"),
        ("a digit in quotes", "1", "a string"),
    ):
        content = body([[value] * width], datatype=subject.integer_datatype)
        yield case(f"integer: {name}", content, says, small)


def _v2_binary(subject: Subject) -> Iterator[BadRequest]:
    path = f"/v2/models/{subject.floats}/infer"
    good, headers = as_binary(good_call(subject))
    length = int(headers["Inference-Header-Content-Length"])
    size = 4 * subject.width

    def case(name: str, content: bytes, says: str, header: str, status: int = 400) -> BadRequest:
        return BadRequest(f"binary: {name}", path, content, says, status, {"Inference-Header-Content-Length": header})

    def sized(value: Any, tail: bytes = good[length:]) -> tuple[bytes, str]:
        document = json.loads(good[:length])
        document["inputs"][0]["parameters"]["binary_data_size"] = value
        text = json.dumps(document).encode()
        return text + tail, str(len(text))

    yield case("cut off", good[:-1], "are left for it", str(length))
    yield case("no tensors", good[:length], "are left for it", str(length))
    yield case("bytes left over", good + b"\0\0", "after the last input", str(length))
    yield case("header beyond the body", good, "but the body has", str(len(good) + 1))
    yield case("header cuts the JSON", good, "not valid JSON", str(length - 1))
    yield case("header in words", good, "must be a whole number", "all")
    yield case("header negative", good, "must be a whole number", "-1")
    yield case("header of many digits", good, "must be a whole number", "1" * 30)
    yield case("header over the JSON limit", good, "over the limit", str(10**12), 413)
    yield case("no JSON part", good[: size + 1], f"a body of {size + 1} bytes does not fit", "0")
    for name, value, says in (
        ("negative", -1, "binary_data_size -1"),
        ("beyond 64 bits", 2**63, "binary_data_size"),
        ("a string", "12", "'binary_data_size'"),
        ("true", True, "'binary_data_size'"),
        ("too small", size - 1, "after the last input"),
    ):
        content, header = sized(value)
        yield case(f"size {name}", content, says, header)
    content, header = sized(size - 1, good[length:-1])
    yield case("part of an element", content, "bytes of data", header)
    document = json.loads(good[:length])
    document["inputs"][0]["data"] = [1.0]
    text = json.dumps(document).encode()
    yield case("both data and bytes", text + good[length:], "both data and", str(len(text)))
    for encoding, content, says in (
        ("br", good, "Content-Encoding is not supported"),
        ("gzip", good, "is not valid gzip"),
        ("deflate", gzip.compress(good), "is not valid deflate"),
        ("gzip", gzip.compress(good)[:-4], "ends within its gzip data"),
        ("deflate", zlib.compress(good)[:-4], "ends within its deflate data"),
    ):
        compressed = {"Content-Encoding": encoding, **headers}
        yield BadRequest(f"binary: compressed, {says}", path, content, says, 400, compressed)
    bomb = gzip.compress(bytes(1 << 27))
    yield BadRequest(
        "binary: bomb",
        path,
        bomb,
        "the decompressed body is over the limit",
        413,
        {**headers, "Content-Encoding": "gzip"},
    )


def _predict(subject: Subject) -> Iterator[BadRequest]:
    x, row = subject.input, [1.0] * subject.width
    path = f"/predict/{subject.floats}"

    def case(name: str, content: Any, says: str, where: str = path, status: int = 400, **headers: str) -> BadRequest:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        return BadRequest(
            f"predict: {name}", where, raw, says, status, {k.replace("_", "-"): v for k, v in headers.items()}
        )

    yield case("not JSON", b"x", "not valid JSON")
    yield case("a list", [], "must be a JSON object")
    yield case("nothing", {}, "either 'inputs'")
    yield case("both", {"inputs": [row], "instances": [row]}, "either 'inputs'")
    yield case("unknown key", {"input": [row]}, "unknown key 'input'")
    yield case("no model", {"inputs": [row]}, "names no model", "/predict")
    yield case("model a number", {"model": 1, "inputs": [row]}, "'model'", "/predict")
    yield case("another model", {"model": "other", "inputs": [row]}, "'other'")
    yield case("unknown model", {"inputs": [row]}, "no model 'nosuch'", "/predict/nosuch", 404)
    yield case("unknown model in the body", {"model": "nosuch", "inputs": [row]}, "'nosuch'", "/predict", 404)
    yield case("unknown version", {"inputs": [row]}, "99", path + "/versions/99", 404)
    yield case("version of a wrong type", {"version": [1], "inputs": [row]}, "'version'")
    yield case("unknown signature", {"signature": "nosuch", "inputs": [row]}, "'nosuch'")
    yield case("unknown input", {"inputs": {"nosuch": [row]}}, "no input 'nosuch'")
    yield case("missing input", {"inputs": {}}, "is missing")
    yield case("unknown output", {"inputs": [row], "outputs": ["nosuch"]}, "no output 'nosuch'")
    yield case("outputs a string", {"inputs": [row], "outputs": "y"}, "'outputs'")
    yield case("wrong rank", {"inputs": row}, "shape")
    yield case("wrong dimension", {"inputs": [[*row, 1.0]]}, "shape")
    yield case("ragged", {"inputs": [row, row[1:]]}, "ragged")
    yield case("strings", {"inputs": [["1"] * len(row)]}, "a string")
    yield case("zero rows", {"inputs": {x: []}}, "shape [0]")
    yield case("inputs null", {"inputs": None}, "'inputs'")
    yield case("instances an object", {"instances": {x: [row]}}, "must be a list of rows")
    yield case("instances of other names", {"instances": [{"nosuch": row}]}, "instances[0]")
    yield case("instances mixed", {"instances": [{x: row}, row]}, "instances[1]")
    yield case("no instances", {"instances": []}, "shape [0]")
    yield case("parameters a list", {"inputs": [row], "parameters": [1]}, "'parameters'")
    endless = {"inputs": [[math.nan, *row[1:]]], "parameters": {"timeout": 10**400}}
    yield case("timeout of 400 digits", endless, "'timeout'")
    yield case("other content type", {"inputs": [row]}, "content type 'text/csv'", Content_Type="text/csv")
    for kind in ("image/png", "application/octet-stream", "multipart/form-data; boundary=x"):
        yield case(f"{kind} to a model that takes none", b"--x", "[preprocess]", Content_Type=kind)


def _numpy(subject: Subject) -> Iterator[BadRequest]:
    path = f"/predict/{subject.floats}"
    good = np.ones((1, subject.width), np.float32)

    def npy(name: str, content: bytes, says: str, where: str = path) -> BadRequest:
        return BadRequest(f"npy: {name}", where, content, says, 400, {"Content-Type": "application/x-npy"})

    def npz(name: str, content: bytes, says: str, status: int = 400) -> BadRequest:
        return BadRequest(f"npz: {name}", path, content, says, status, {"Content-Type": "application/x-npz"})

    plain = _npy(good)
    yield npy("nothing", b"", "not a valid npy")
    yield npy("not npy", b"hello, world", "not a valid npy")
    yield npy("cut off", plain[:-1], "bytes of data")
    yield npy("header only", plain[:128], "bytes of data")
    yield npy("half a header", plain[:40], "not a valid npy")
    yield npy("bytes left over", plain + b"\0", "bytes of data")
    yield npy("no model", plain, "/predict/{model}", "/predict")
    yield npy("wrong datatype", _npy(good.astype(np.float64)), "datatype FP64")
    yield npy("wrong shape", _npy(good[0]), "shape")
    yield npy("pickle", _npy(np.array([[{}]], dtype=object), pickled=True), "Python objects")
    yield npy("complex", _npy(good.astype(np.complex64)), "complex64")
    yield npy("dates", _npy(np.zeros((1, 3), "M8[s]")), "datetime64")
    yield npy("records", _npy(np.zeros((1, 3), [("a", "f4")])), "records")
    yield npy("empty strings", _npy(np.zeros((1, 3), "S1")).replace(b"'|S1'", b"'|S0'"), "bytes")
    for name, shape in (
        ("far more", "(1099511627776, 3)"),
        ("overflow", "(4611686018427387904, 4611686018427387904)"),
        ("to nothing", "(0, 4611686018427387904, 4611686018427387904)"),
        ("negative", "(-1, 3)"),
        ("words", "('a', 3)"),
        ("very many", "(" + "1," * 100 + ")"),
    ):
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(374) + b"\n"
        lying = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
        yield npy(f"header claims {name}", lying + (b"" if name == "to nothing" else good.tobytes()), "input")
    yield npy("deep header", b"\x93NUMPY\x01\x00\x00\x20" + b"(" * 0x2000, "not a valid npy")
    yield npz("nothing", b"", "not a valid npz")
    yield npz("not a zip", plain, "not a valid npz")
    yield npz("cut off", _npz({subject.input: plain})[:-10], "not a valid npz")
    yield npz("no arrays", _npz({}), "is missing")
    yield npz("unknown input", _npz({subject.input: plain, "nosuch": plain}), "no input 'nosuch'")
    yield npz("not npy inside", _npz({subject.input: b"hello"}), "not a valid npy")
    yield npz("pickle inside", _npz({subject.input: _npy(np.array([[{}]], dtype=object), pickled=True)}), "objects")
    yield npz("bomb", _npz({subject.input: bytes(200 << 20)}), "over the limit", 413)
    yield npz("many files", _npz({f"n{index}": b"" for index in range(2000)}), "more than 1024")
    yield npz("spoilt", _npz({subject.input: plain}).replace(b"NUMPY", b"NUMPX"), "not a valid npz")
    yield npz("unusual compression", _npz({subject.input: plain}, zipfile.ZIP_LZMA), "unsupported compression")
    yield npz("encrypted", _encrypted(_npz({subject.input: plain})), "not a valid npz")


def _npy(array: np.ndarray, pickled: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=pickled)
    return stream.getvalue()


def _npz(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in files.items():
            stored = zipfile.ZIP_STORED if b"NUMPY" in content[:8] and compression == zipfile.ZIP_DEFLATED else None
            archive.writestr(name + ".npy", content, stored)
    return stream.getvalue()


def _encrypted(archive: bytes) -> bytes:
    """The archive with the flag of encryption set, in the file's own record and in the directory's."""
    spoilt = bytearray(archive)
    spoilt[6] |= 1
    spoilt[archive.index(b"PK\x01\x02") + 8] |= 1
    return bytes(spoilt)


def _grpc_only(subject: Subject) -> Iterator[BadCall]:
    model, width, x = subject.floats, subject.width, subject.input
    good = good_call(subject)

    def case(name: str, message: Any, says: str, method: str = "ModelInfer", code: str = INVALID) -> BadCall:
        raw = message if isinstance(message, bytes) else message.SerializeToString()
        return BadCall(f"grpc: {name}", method, raw, says, code)

    garbage = b"\xff\xff\xff\xff garbage"
    for method in (
        "ModelInfer",
        "ModelReady",
        "ServerReady",
        "ModelMetadata",
        "ModelConfig",
        "RepositoryIndex",
        "RepositoryModelLoad",
    ):
        yield case(f"garbage for {method}", garbage, "not a valid inference.", method)
    yield case("not UTF-8", b"\x0a\x01\xff", "not a valid inference.")
    yield case("an empty message", b"", "no model", code=NOT_FOUND)
    yield case("metadata of no model", b"\x0a\x06nosuch", "nosuch", "ModelMetadata", NOT_FOUND)

    message = as_message(good, raw=True)
    message.raw_input_contents.append(b"")
    yield case("too many raw", message, "2 raw_input_contents")
    message = as_message(good, raw=True)
    message.inputs.add(name="other", datatype="FP32", shape=[1])
    yield case("too few raw", message, "1 raw_input_contents")
    message = as_message(good, raw=False)
    message.raw_input_contents.append(b"\0" * 4 * width)
    yield case(
        "raw and typed", message, f"contents field must not be specified when using raw_input_contents for '{x}'"
    )
    message = as_message(good, raw=False)
    message.inputs[0].contents.int_contents.append(1)
    yield case("another field", message, "not int_contents")
    message = as_message(Call(model, (Value(x, "FP16", (1, width), [1.0] * width),)), raw=False)
    yield case("FP16 typed", message, "use raw_input_contents")
    for raw, says, code in (
        (None, "switched off", "UNIMPLEMENTED"),
        (True, "0 inputs", INVALID),
        (False, "must not be specified when using a shared_memory_region", INVALID),
    ):
        message = as_message(good, raw=bool(raw))
        message.inputs[0].parameters["shared_memory_region"].string_param = "r"
        message.inputs[0].parameters["shared_memory_byte_size"].int64_param = 4 * subject.width
        if raw is None:
            message.inputs[0].ClearField("contents")
        yield case(f"shared memory, {says}", message, says, code=code)
    for kind, count in (("int64_param", 0), ("int64_param", -1), ("bool_param", True), ("string_param", "3")):
        message = as_message(good, raw=True)
        setattr(message.outputs.add(name=subject.output).parameters["classification"], kind, count)
        yield case(f"classification {count}", message, "a whole number of at least 1")
    message = as_message(good, raw=True)
    message.outputs.add(name=subject.output).parameters["classification"].SetInParent()
    yield case("classification of nothing", message, "a whole number of at least 1")
    yield case("configuration of no model", b"\x0a\x06nosuch", "nosuch", "ModelConfig", NOT_FOUND)
    if subject.integer_datatype in ("INT8", "UINT8", "INT16", "UINT16"):
        limits = np.iinfo(np.dtype(subject.integer_datatype.lower()))
        for value in (int(limits.max) + 1, *([int(limits.min) - 1] if limits.min else [])):
            wide = Value(x, subject.integer_datatype, (1, width), [value] * width)
            message = as_message(Call(subject.integers, (wide,)), raw=False)
            yield case(f"integer {value}", message, "out of the range")
