"""Models for tests of TensorFlow Serving's dialect, over a fake engine, without a server."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gateway.domain.types import InferRequest, ModelStatus
from gateway.engine.fake import FakeEngine
from gateway.errors import ModelportError
from gateway.front.base.body import Headers
from gateway.front.base.limits import Limits
from gateway.front.http.routes import match
from runtimes.contract import Signature, TensorSpec
from runtimes.tensors import Tensor, from_array, to_array, unpack_bytes

LIMITS = Limits(json_bytes=1 << 20, binary_bytes=1 << 16, response_bytes=1 << 20)

_SERIALIZED = (TensorSpec("inputs", "BYTES", (-1,)),)
_SCORES, _CLASSES = TensorSpec("scores", "FP32", (-1, 2)), TensorSpec("classes", "BYTES", (-1, 2))
_RESULT = TensorSpec("outputs", "FP32", (-1, 1))


def models() -> list[ModelStatus]:
    serving = {
        "serving_default": Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),)),
        "classify": Signature(_SERIALIZED, (_CLASSES, _SCORES)),
        "scores": Signature(_SERIALIZED, (_SCORES,)),
        "classes": Signature(_SERIALIZED, (_CLASSES,)),
        "regress": Signature(_SERIALIZED, (_RESULT,)),
        "direct": Signature((TensorSpec("inputs", "FP32", (-1, 1)),), (_RESULT,)),
        "strings": Signature(_SERIALIZED, (TensorSpec("other", "FP32", (-1, 1)),)),
        "odd": Signature(_SERIALIZED, (_SCORES, _RESULT)),
    }
    several = Signature(
        (TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "BYTES", (-1,))),
        (TensorSpec("a_out", "FP32", (-1, 2)), TensorSpec("image_bytes", "BYTES", (-1,)), TensorSpec("n")),
    )
    echo = Signature((TensorSpec("s"),), (TensorSpec("s_out"),))
    return [
        ModelStatus("saved", "1", "READY", admits=True, signatures=serving, version_labels=("stable",)),
        ModelStatus("saved", "2", "READY", admits=True, signatures=serving, version_labels=("canary",)),
        ModelStatus("several", "1", "READY", admits=True, signatures={"default": several}),
        ModelStatus(
            "echo", "1", "READY", signatures={"default": echo},
            learned=Signature((TensorSpec("s", "FP64", (-1,)),), (TensorSpec("s_out", "FP64", (-1,)),)),
        ),
        ModelStatus(
            "labelled", "1", "READY", signatures={"default": serving["scores"]}, class_labels={"scores": ("cat",)}
        ),
        ModelStatus("broken", "3", "UNAVAILABLE", "its artifact is cut off"),
        ModelStatus("coming", "4", "LOADING", "it is being loaded"),
    ]  # fmt: skip


def compute(request: InferRequest) -> Sequence[Tensor]:
    """Scores and results are the lengths of the serialized examples; other inputs are returned."""
    (first, *_) = request.inputs
    if first.name == "inputs" and first.datatype == "BYTES":
        sizes = np.array([len(raw) for raw in unpack_bytes(first.data, first.shape[0])], np.float32)
        made = {
            "scores": from_array("scores", np.stack([sizes, -sizes], 1)),
            "classes": from_array("classes", np.array([[b"cat", b"dog"]] * len(sizes), object)),
            "outputs": from_array("outputs", sizes.reshape(-1, 1)),
        }
        if request.signature == "odd":
            made["scores"] = from_array("scores", sizes)
            made["outputs"] = from_array("outputs", sizes.reshape(1, -1))
        return [made[name] for name in request.outputs]
    if request.model == "several":
        outputs = {
            "a_out": request.inputs[0]._replace(name="a_out"),
            "image_bytes": request.inputs[1]._replace(name="image_bytes"),
        }
        return [outputs[name] for name in request.outputs or outputs]
    return [first._replace(name="y" if first.name == "x" else first.name + "_out")]


def engine(compute: Callable[[InferRequest], Sequence[Tensor]] = compute) -> FakeEngine:
    return FakeEngine(models(), compute)


def post(engine: FakeEngine, path: str, body: Any) -> tuple[int, Any]:
    """Return the status and the document of a hot path's answer."""
    route = match(path.encode())
    assert route is not None, path
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        request, write = route.dialect.read(engine, LIMITS, route, Headers(len(raw)), raw)
        reply = write(asyncio.run(engine.infer(request)))
    except ModelportError as error:
        return error.status, json.loads(route.dialect.encode_error(error))
    return reply.status, json.loads(b"".join(reply.body))


def received(engine: FakeEngine) -> dict[str, np.ndarray]:
    """Return the inputs of the last request."""
    return {tensor.name: to_array(tensor) for tensor in engine.requests[-1].inputs}
