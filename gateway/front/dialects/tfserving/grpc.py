"""TensorFlow Serving over gRPC: translates between messages and the engine's types."""

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from gateway.codecs.protobuf_fields import field, field_head
from gateway.domain.identity import Identity
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import Engine
from gateway.engine.validate import check_count
from gateway.errors import Unsupported
from gateway.front.base.grpc_method import InferCall, Method, Service, no_model, parse, unary
from gateway.front.base.limits import Limits, check_answer
from gateway.front.base.loading import loaded_model
from gateway.front.dialects.tfserving.example_calls import ExampleCalls
from gateway.front.dialects.tfserving.metadata import (
    SIGNATURE_DEF,
    answered_spec,
    check_fields,
    model_spec,
    model_status,
    signature_map,
)
from gateway.front.dialects.tfserving.model_spec import (
    DEFAULT_SIGNATURE,
    check_version,
    model_of,
    read_spec,
    signature_key,
)
from gateway.front.dialects.tfserving.tensor_proto import read_tensor_proto, write_tensor_proto
from gateway.generated import tensorflow_serving_pb2 as pb
from runtimes.tensors import Buffer, Tensor

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

# Field keys: outputs of PredictResponse, and key and value of each of its entries.
_OUTPUTS: Final = 1 << 3 | 2
_VALUE: Final = 2 << 3 | 2
_KEY: Final = 1 << 3 | 2


def services(engine: Engine, limits: Limits) -> list[Service]:
    return [
        Service(PREDICTION_SERVICE, {"Predict": Predict(engine, limits), **prediction_methods(engine, limits)}),
        Service(MODEL_SERVICE, model_methods(engine)),
    ]


def _model_of_predict(raw: bytes) -> str:
    return model_of(parse(pb.PredictRequest, raw))


class Predict(InferCall[str]):
    """The hot method. Its answer only needs the signature of the request."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        super().__init__(engine, self.read, self.write, _model_of_predict)
        self._limits = limits

    def read(self, raw: bytes, seconds: float | None) -> tuple[InferRequest, str]:
        message = parse(pb.PredictRequest, raw)
        spec = read_spec(message.model_spec)
        with self._engine.reserve_body(spec.model, spec.version):
            check_version(spec.model, spec.version, spec.is_label)
            signature = spec.signature
            if signature == DEFAULT_SIGNATURE:
                signature = signature_key(self._engine.model(spec.model, spec.version), signature)
            inputs = self._inputs(message.inputs)
        deadline = None if seconds is None else time.monotonic() + seconds
        check_count(len(message.output_filter), "outputs")
        outputs = list(message.output_filter)
        return InferRequest(spec.model, inputs, spec.version, "", outputs, signature, deadline=deadline), signature

    def _inputs(self, protos: Mapping[str, Any]) -> list[Tensor]:
        """Convert the inputs. One value may be repeated to fill a tensor, so their total size is limited as well."""
        check_count(len(protos), "inputs")
        bytes_left = self._limits.binary_bytes
        inputs = []
        # The order of a protobuf map is arbitrary. Sorted, the same inputs have the same layout and can form a batch.
        for name in sorted(protos):
            tensor = read_tensor_proto(name, protos[name], bytes_left)
            bytes_left = max(bytes_left - len(tensor.data), 0)
            inputs.append(tensor)
        return inputs

    def write(self, signature: str, response: InferResponse) -> bytes:
        check_answer(response, self._limits)
        parts: list[Buffer] = []
        for tensor in response.outputs:
            key = _key(tensor.name)
            value = write_tensor_proto(tensor)
            size = sum(map(len, value))
            head = field_head(_VALUE, size)
            parts += [field_head(_OUTPUTS, len(key) + len(head) + size), key, head, *value]
        parts.append(_spec_field(response.model, response.version, signature or DEFAULT_SIGNATURE))
        return b"".join(parts)


@lru_cache(1024)
def _key(name: str) -> bytes:
    return b"".join(field(_KEY, name.encode()))


@lru_cache(1024)
def _spec_field(model: str, version: str, signature: str) -> bytes:
    spec = answered_spec(model, version, signature)
    raw: bytes = pb.PredictResponse(model_spec=spec).SerializeToString()
    return raw


def prediction_methods(engine: Engine, limits: Limits) -> dict[str, Method]:
    """Return the methods of PredictionService except Predict, by name. They raise ModelportError."""

    async def metadata(
        message: pb.GetModelMetadataRequest, seconds: float | None, identity: Identity | None
    ) -> Message:
        spec = read_spec(message.model_spec)
        status = await loaded_model(engine, spec.find(engine).name, spec.version, identity)
        check_fields(message.metadata_field)
        packed = AnyMessage()
        packed.Pack(signature_map(status))
        return pb.GetModelMetadataResponse(model_spec=model_spec(status), metadata={SIGNATURE_DEF: packed})

    return {
        **ExampleCalls(engine, limits).methods(),
        "GetModelMetadata": unary("read", pb.GetModelMetadataRequest, model_of, metadata),
    }


def model_methods(engine: Engine) -> dict[str, Method]:
    """Return the methods of ModelService by name. They raise ModelportError."""

    async def status(message: pb.GetModelStatusRequest, seconds: float | None, identity: Identity | None) -> Message:
        spec = read_spec(message.model_spec)
        return model_status(engine, spec.model, spec.version, spec.is_label)

    async def reload(message: pb.ReloadConfigRequest, seconds: float | None, identity: Identity | None) -> Message:
        raise Unsupported(
            "the configuration cannot be changed over gRPC; edit the repository or models.config, which are read again"
        )

    return {
        "GetModelStatus": unary("read", pb.GetModelStatusRequest, model_of, status),
        "HandleReloadConfigRequest": unary("admin", pb.ReloadConfigRequest, no_model, reload),
    }
