"""Valid requests, from which the hostile ones are made, and the models that they are for."""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from PIL import Image

from gateway.access.keys import digest_of
from gateway.generated import open_inference_pb2 as pb
from gateway.generated import tensorflow_pb2 as tf
from gateway.generated import tensorflow_serving_pb2 as tfs

# What hostile requests may do to the models: `m` and the others are used, `spare` is also loaded and unloaded. Nobody
# but the neighbour uses `neighbour`.
SPARE = "spare"
NEIGHBOUR = "neighbour"
# The keys of those who send hostile requests, in a gateway with identities.
KEYS = ("user_key_of_32_characters_or_more", "operator_key_of_32_characters_or_more")
NEIGHBOUR_KEY = "neighbour_key_of_32_characters_or_more"
_SCALARS = {"i": ("INT64", [-1, 2]), "s": ("BYTES", [-1, 1]), "b": ("BOOL", [-1, 1]), "d": ("FP64", [-1, -1])}


class Http(NamedTuple):
    """headers: lines without their ends."""

    method: bytes
    target: bytes
    headers: tuple[bytes, ...] = ()
    body: bytes = b""

    @property
    def raw(self) -> bytes:
        """The request with a correct Content-Length."""
        length = (b"Content-Length: %d" % len(self.body),) if self.body or self.method == b"POST" else ()
        return b"\r\n".join((b"%b %b HTTP/1.1" % self[:2], b"Host: 127.0.0.1", *self.headers, *length, b"", self.body))

    @property
    def is_json(self) -> bool:
        return self.body[:1] in (b"{", b"[") and not any(b"Header-Content-Length" in line for line in self.headers)


class Call(NamedTuple):
    path: str
    message: Any


def write_models(repository: Path) -> None:
    """Write the models: fakes whose answers are twice their inputs, whatever the values."""
    for name in ("m", SPARE, NEIGHBOUR):
        _write(repository / name / "1", {})
    _write(repository / "many" / "1", {"inputs": _specs(""), "outputs": _specs("_out")})
    shape = {"datatype": "FP32", "shape": [-1, 3, 4, 6]}
    _write(repository / "photo" / "1", {"inputs": [{"name": "x", **shape}], "outputs": [{"name": "y", **shape}]})
    (repository / "photo" / "model.toml").write_text("[preprocess]\nsize = [4, 6]\n")


def write_identities(folder: Path) -> Path:
    """Write a file of identities: the neighbour's, and one for each of KEYS."""
    file = folder / "identities.toml"
    roles = {"neighbour": ["infer:neighbour"], "user": ["infer:m*", "read"], "operator": ["admin", "read", "infer"]}
    text = ['[anonymous]\nroles = ["health", "metrics"]\n']
    for key in (NEIGHBOUR_KEY, *KEYS):
        name = key.partition("_")[0]
        text.append(f"[identities.{name}]\nkey_sha256 = ['{digest_of(key)}']\nroles = {json.dumps(roles[name])}\n")
    file.write_text("\n".join(text))
    return file


def _specs(suffix: str) -> list[dict[str, Any]]:
    return [{"name": name + suffix, "datatype": kind, "shape": shape} for name, (kind, shape) in _SCALARS.items()]


def _write(folder: Path, described: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "model.fake.json").write_text(json.dumps({**described, "inert": True}))


def _row(value: float = 1.0) -> list[list[float]]:
    return [[value, 2.0, -3.5, 0.0]]


def _v2_many() -> dict[str, Any]:
    data: dict[str, Any] = {"i": [1, -2], "s": ["text"], "b": [True], "d": [0.5, 1.5, 2.5]}
    inputs = [
        {"name": name, "datatype": kind, "shape": [1, len(data[name])], "data": data[name]}
        for name, (kind, _) in _SCALARS.items()
    ]
    return {"id": "42", "inputs": inputs, "outputs": [{"name": "i_out"}, {"name": "s_out", "parameters": {}}]}


def http_requests() -> list[Http]:
    return [*_hot(), *_cold()]


def _hot() -> Iterator[Http]:
    json_type = b"Content-Type: application/json"
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": _row()[0]}
    v2 = json.dumps({"inputs": [tensor], "parameters": {"timeout": 1 << 30, "priority": 1}}).encode()
    for target in (b"/v2/models/m/infer", b"/v2/models/m/versions/1/infer"):
        yield Http(b"POST", target, (json_type,), v2)
    yield Http(b"POST", b"/v2/models/many/infer", (json_type,), json.dumps(_v2_many()).encode())
    zipped = (json_type, b"Content-Encoding: gzip", b"Accept-Encoding: gzip")
    yield Http(b"POST", b"/v2/models/m/infer", zipped, gzip.compress(v2, mtime=0))
    raw = np.array(_row(), np.float32).tobytes()
    head = {**tensor, "parameters": {"binary_data_size": len(raw)}}
    del head["data"]
    text = json.dumps({"inputs": [head], "parameters": {"binary_data_output": True}}).encode()
    yield Http(b"POST", b"/v2/models/m/infer", (b"Inference-Header-Content-Length: %d" % len(text),), text + raw)
    for target, document in (
        (b"/predict/m", {"inputs": {"x": _row()}}),
        (b"/predict/m/versions/1", {"inputs": _row()}),
        (b"/predict", {"model": "m", "inputs": _row()}),
        (b"/predict/many", {"inputs": {"i": [[1, 2]], "s": [["a"]], "b": [[False]], "d": [[1.5]]}}),
        (b"/v1/models/m:predict", {"instances": _row()}),
        (b"/v1/models/m/versions/1:predict", {"signature_name": "serving_default", "inputs": {"x": _row()}}),
        (b"/v1/models/many:predict", {"instances": [{"i": [1, 2], "s": [{"b64": "YQ=="}], "b": [True], "d": [1.0]}]}),
        (b"/v1/models/m:classify", {"examples": [{"x": _row()[0]}]}),
        (b"/v1/models/m:regress", {"context": {"x": 1.0}, "examples": [{"x": [1.0]}]}),
        (b"/predictions/m", {"inputs": _row()}),
        (b"/predictions/m/1", {"data": _row()}),
    ):
        yield Http(b"POST", target, (json_type,), json.dumps(document).encode())
    npy, npz, png = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, np.array(_row(), np.float32))
    np.savez(npz, x=np.array(_row(), np.float32))
    Image.new("RGB", (8, 6), (1, 2, 3)).save(png, "PNG")
    for target, kind, body in (
        (b"/predict/m", b"application/x-npy", npy.getvalue()),
        (b"/predict/m", b"application/x-npz", npz.getvalue()),
        (b"/predict/photo", b"image/png", png.getvalue()),
        (b"/predictions/photo", b"application/octet-stream", png.getvalue()),
    ):
        yield Http(b"POST", target, (b"Content-Type: " + kind,), body)
    part = b'--B\r\nContent-Disposition: form-data; name="data"; filename="a.png"\r\n\r\n%b\r\n--B--\r\n'
    for target in (b"/predict/photo", b"/predictions/photo"):
        yield Http(b"POST", target, (b"Content-Type: multipart/form-data; boundary=B",), part % png.getvalue())


def _cold() -> Iterator[Http]:
    for target in (
        "/", "/docs", "/openapi.json", "/metrics", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models",
        "/v2/models/m", "/v2/models/m/versions/1", "/v2/models/many/ready", "/v2/models/m/config", "/v2/models/m/stats",
        "/v2/models/stats", "/v1/models", "/v1/models/m", "/v1/models/m/versions/1/metadata", "/v1/models/m/metadata",
        "/v1/models/m/labels/stable", "/ping", "/models", "/models/m", "/models/m/1", "/models/m/all?limit=2",
        "/v2/systemsharedmemory/status", "/v2/cudasharedmemory/status", "/v2/models/m/export/1",
    ):  # fmt: skip
        yield Http(b"GET", target.encode())
    shared = {"key": "/nosuch", "offset": 0, "byte_size": 64}
    for target, document in (
        ("/v2/repository/index", {"ready": True}),
        (f"/v2/repository/models/{SPARE}/load", {}),
        (f"/v2/repository/models/{SPARE}/unload", {"parameters": {"unload_dependents": False}}),
        ("/v2/systemsharedmemory/region/r/register", shared),
        ("/v2/systemsharedmemory/region/r/unregister", {}),
        ("/v2/models/m/export", {"route": "onnx"}),
        ("/models?url=m.mar", {}),
        ("/explanations/m", {"inputs": _row()}),
    ):
        yield Http(b"POST", target.encode(), (), json.dumps(document).encode())
    yield Http(b"PUT", b"/models/m?min_worker=1")
    yield Http(b"DELETE", b"/models/m/1")
    yield Http(b"OPTIONS", b"/predictions/m")


def metrics_requests() -> list[Http]:
    return [Http(b"GET", b"/metrics", (b"Accept: text/plain",)), Http(b"GET", b"/metrics?name[]=a"), Http(b"GET", b"/")]


def _infer(raw: bool) -> Any:
    message = pb.ModelInferRequest(model_name="m", id="7")
    tensor = message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    if raw:
        message.raw_input_contents.append(np.array(_row(), np.float32).tobytes())
    else:
        tensor.contents.fp32_contents.extend(_row()[0])
    message.outputs.add(name="y")
    message.parameters["priority"].int64_param = 1
    return message


def _tensor_proto() -> Any:
    tensor = tf.TensorProto(dtype=1, float_val=_row()[0])
    for size in (1, 4):
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def grpc_calls() -> list[Call]:
    """Calls of unary methods."""
    oip, serving = "/inference.GRPCInferenceService/", "/tensorflow.serving.PredictionService/"
    spec = tfs.ModelSpec(name="m")
    examples = tfs.Input()
    feature = examples.example_list.examples.add().features.feature["x"]
    feature.float_list.value.extend(_row()[0])
    return [
        *[Call(oip + "ModelInfer", _infer(raw)) for raw in (True, False)] * 4,
        Call(oip + "ServerLive", pb.ServerLiveRequest()),
        Call(oip + "ServerReady", pb.ServerReadyRequest()),
        Call(oip + "ServerMetadata", pb.ServerMetadataRequest()),
        Call(oip + "ModelReady", pb.ModelReadyRequest(name="m", version="1")),
        Call(oip + "ModelMetadata", pb.ModelMetadataRequest(name="m")),
        Call(oip + "ModelConfig", pb.ModelConfigRequest(name="m")),
        Call(oip + "ModelStatistics", pb.ModelStatisticsRequest(name="m")),
        Call(oip + "RepositoryIndex", pb.RepositoryIndexRequest(ready=True)),
        Call(oip + "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=SPARE)),
        Call(oip + "SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(name="r")),
        Call(oip + "SystemSharedMemoryRegister", pb.SystemSharedMemoryRegisterRequest(name="r", key="/n", byte_size=8)),
        *[Call(serving + "Predict", tfs.PredictRequest(model_spec=spec, inputs={"x": _tensor_proto()}))] * 3,
        Call(serving + "Classify", tfs.ClassificationRequest(model_spec=spec, input=examples)),
        Call(serving + "Regress", tfs.RegressionRequest(model_spec=spec, input=examples)),
        Call(
            serving + "GetModelMetadata", tfs.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        ),
        Call("/tensorflow.serving.ModelService/GetModelStatus", tfs.GetModelStatusRequest(model_spec=spec)),
        Call("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest(service="m")),
    ]


def stream_calls() -> list[Call]:
    """Calls of methods with streams in both directions, with the message that is sent several times."""
    reflection = reflection_pb2.ServerReflectionRequest(list_services="")
    return [
        *[Call("/inference.GRPCInferenceService/ModelStreamInfer", _infer(True))] * 3,
        Call("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", reflection),
    ]
