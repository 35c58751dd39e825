"""Every datatype through every format, both ways."""

import io
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gateway.front.dialects.v2.grpc_tensors import CONTENTS_FIELDS
from gateway.generated import open_inference_pb2 as pb
from runtimes.contract import DATATYPES, NARROW_RANGES, numpy_dtype
from runtimes.tensors import Tensor, from_array, to_array, widened
from tests.support.front_server import Serving
from tests.support.v2_calls import Call, Value, as_binary, as_json, as_message


def sample(datatype: str) -> np.ndarray:
    """Return an array of shape [4, 5] with the limits of the datatype and, for floats, non-finite values."""
    generator = np.random.default_rng(3)
    dtype = numpy_dtype(datatype)
    if datatype == "BYTES":
        words = [generator.bytes(int(size)) for size in generator.integers(0, 9, 18)]
        values: Any = np.empty(20, dtype=object)
        values[:] = [*words, b"", "Ω".encode()]
    elif dtype.kind == "b":
        values = generator.random(20) < 0.5
    elif DATATYPES[datatype].typestr is None:
        values = every_value(datatype)[-20:]  # for floats, these are NaN or infinite
        values[:10] = every_value(datatype)[:10]
    elif dtype.kind == "f":
        values = generator.normal(size=20).astype(dtype)
        values[:6] = [np.finfo(dtype).max, np.finfo(dtype).tiny, np.nan, np.inf, -np.inf, -0.0]
    else:
        limits = np.iinfo(dtype)
        values = generator.integers(limits.min, limits.max, 20, dtype=dtype, endpoint=True)
        values[:2] = [limits.min, limits.max]
    shaped: np.ndarray = values.reshape(4, 5)
    return shaped


def every_value(datatype: str) -> np.ndarray:
    """Return all values of a datatype of up to 16 bits that numpy lacks, at least 20."""
    itemsize = DATATYPES[datatype].itemsize
    if datatype in NARROW_RANGES:
        low, high = NARROW_RANGES[datatype]
        return np.tile(np.arange(low, high + 1, dtype=np.int8).astype(numpy_dtype(datatype)), 2)
    return np.arange(1 << 8 * itemsize, dtype=f"u{itemsize}").view(numpy_dtype(datatype))


def flat(array: np.ndarray) -> list[Any]:
    """Return the values as in JSON."""
    if array.dtype != object:
        return list(array.ravel().tolist())
    return [{"b64": b64encode(element).decode()} for element in array.ravel()]


def same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if expected.dtype == object:
        assert found.tolist() == expected.tolist()
    else:
        np.testing.assert_array_equal(widened(found), widened(expected))


def through_json(serving: Serving, array: np.ndarray, datatype: str) -> np.ndarray:
    call = Call(f"echo_{datatype}", (Value("x", datatype, array.shape, flat(array)),))
    reply = serving.http.post(call.path, content=as_json(call))
    assert reply.headers["content-type"] == "application/json"
    (output,) = json.loads(reply.content)["outputs"]
    assert output["datatype"] == datatype
    return _from_json(output["data"], datatype).reshape(output["shape"])


def through_binary(serving: Serving, array: np.ndarray, datatype: str) -> np.ndarray:
    body, headers = as_binary(_call(array, datatype))
    reply = serving.http.post(f"/v2/models/echo_{datatype}/infer", content=body, headers=headers)
    length = int(reply.headers["inference-header-content-length"])
    (output,) = json.loads(reply.content[:length])["outputs"]
    data = reply.content[length:]
    assert output["parameters"] == {"binary_data_size": len(data)}
    return to_array(Tensor("y", output["datatype"], tuple(output["shape"]), data))


def through_typed(serving: Serving, array: np.ndarray, datatype: str) -> np.ndarray:
    if datatype not in CONTENTS_FIELDS:
        pytest.skip(f"{datatype} has no typed contents")
    message = as_message(_call(array, datatype), raw=False)
    answer = pb.ModelInferResponse.FromString(serving.call("ModelInfer", message.SerializeToString()))
    return _raw_output(answer)


def through_raw(serving: Serving, array: np.ndarray, datatype: str) -> np.ndarray:
    message = as_message(_call(array, datatype), raw=True)
    answer = pb.ModelInferResponse.FromString(serving.call("ModelInfer", message.SerializeToString()))
    return _raw_output(answer)


def _raw_output(answer: pb.ModelInferResponse) -> np.ndarray:
    (output,) = answer.outputs
    return to_array(Tensor("y", output.datatype, tuple(output.shape), answer.raw_output_contents[0]))


def through_predict(serving: Serving, array: np.ndarray, datatype: str) -> np.ndarray:
    values = np.empty(array.size, dtype=object)
    values[:] = flat(array)
    body = json.dumps({"inputs": values.reshape(array.shape).tolist()})
    reply = serving.http.post(f"/predict/echo_{datatype}", content=body)
    nested = json.loads(reply.content)["outputs"]["y"]
    assert [len(nested), len(nested[0])] == [4, 5]
    return _from_json([value for row in nested for value in row], datatype).reshape(4, 5)


def through_npy(serving: Serving, array: np.ndarray, datatype: str) -> np.ndarray:
    if datatype == "BYTES":
        pytest.skip("numpy would pickle bytes of any length")
    if DATATYPES[datatype].typestr is None:
        pytest.skip("numpy would write bytes without a type")
    stream = io.BytesIO()
    np.save(stream, np.asfortranarray(array))
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    reply = serving.http.post(f"/predict/echo_{datatype}", content=stream.getvalue(), headers=headers)
    assert reply.headers["content-type"] == "application/x-npy"
    found: np.ndarray = np.load(io.BytesIO(reply.content), allow_pickle=False)
    return found


def through_npz(serving: Serving, array: np.ndarray, datatype: str) -> np.ndarray:
    if datatype == "BYTES":
        pytest.skip("numpy would pickle bytes of any length")
    if DATATYPES[datatype].typestr is None:
        pytest.skip("numpy would write bytes without a type")
    stream = io.BytesIO()
    np.savez_compressed(stream, x=array.astype(array.dtype.newbyteorder(">")))
    headers = {"Content-Type": "application/x-npz", "Accept": "application/x-npz"}
    reply = serving.http.post(f"/predict/echo_{datatype}", content=stream.getvalue(), headers=headers)
    assert reply.headers["content-type"] == "application/x-npz"
    with np.load(io.BytesIO(reply.content), allow_pickle=False) as archive:
        found: np.ndarray = archive["y"]
    return found


WAYS = [through_json, through_binary, through_typed, through_raw, through_predict, through_npy, through_npz]


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_values_survive_the_round_trip(
    serving: Serving, way: Callable[[Serving, np.ndarray, str], np.ndarray], datatype: str
) -> None:
    array = sample(datatype)
    same(way(serving, array, datatype), array)


def test_numpy_strings_survive_the_round_trip(serving: Serving) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([["a", "Ωb"]]))
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    reply = serving.http.post("/predict/echo_BYTES", content=stream.getvalue(), headers=headers)
    assert np.load(io.BytesIO(reply.content), allow_pickle=False).tolist() == [["a", "Ωb"]]


def _call(array: np.ndarray, datatype: str) -> Call:
    return Call(f"echo_{datatype}", (Value("x", datatype, array.shape, array.ravel().tolist()),))


def _from_json(data: list[Any], datatype: str) -> np.ndarray:
    if datatype != "BYTES":
        return np.array(data, numpy_dtype(datatype))
    found = np.empty(len(data), dtype=object)
    found[:] = [b64decode(value["b64"]) if isinstance(value, dict) else value.encode() for value in data]
    return found


def test_the_wire_keeps_what_the_sample_holds() -> None:
    for datatype in DATATYPES:
        same(to_array(from_array("x", sample(datatype))), sample(datatype))
