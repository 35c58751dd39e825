"""Describes models to TensorFlow Serving's clients: the states of the versions, and the signatures."""

from collections.abc import Iterable

from gateway.domain.types import ModelStatus, complete_specs
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest
from gateway.front.base.named_inputs import find_signature
from gateway.front.dialects.tfserving.classify import CLASSIFY, PREDICT, REGRESS, supports
from gateway.front.dialects.tfserving.model_spec import DEFAULT_SIGNATURE, find_model
from gateway.front.dialects.tfserving.tensor_proto import DTYPES, shape_proto
from gateway.generated import tensorflow_error_pb2 as error
from gateway.generated import tensorflow_pb2 as tf
from gateway.generated import tensorflow_serving_pb2 as pb
from runtimes.contract import Signature, TensorSpec

SIGNATURE_DEF = "signature_def"  # the only kind of metadata

_STATES = {
    "UNLOADED": pb.ModelVersionStatus.START,  # the first request loads it
    "LOADING": pb.ModelVersionStatus.LOADING,
    "READY": pb.ModelVersionStatus.AVAILABLE,
    "UNLOADING": pb.ModelVersionStatus.UNLOADING,
    "UNAVAILABLE": pb.ModelVersionStatus.END,
}


def model_status(engine: Engine, model: str, version: str, is_label: bool) -> pb.GetModelStatusResponse:
    """Describe one version, or all of them, newest first, if `version` is "". Raises NotFound."""
    found = [find_model(engine, model, version, is_label)]
    if not version:
        found = [status for status in engine.models() if status.name == model]
        found.sort(key=lambda status: int(status.version or 0), reverse=True)
    return pb.GetModelStatusResponse(model_version_status=map(_version_status, found))


def _version_status(status: ModelStatus) -> pb.ModelVersionStatus:
    code = error.UNAVAILABLE if status.state == "UNAVAILABLE" else error.OK
    result = pb.StatusProto(error_code=code, error_message=status.reason if code else "")
    return pb.ModelVersionStatus(version=int(status.version or 0), state=_STATES[status.state], status=result)


def check_fields(fields: Iterable[str]) -> None:
    """Check the fields of a GetModelMetadataRequest. Raises InvalidRequest."""
    names = set(fields)
    if not names:
        raise InvalidRequest(f"the request has no metadata_field; send {SIGNATURE_DEF}")
    for name in names - {SIGNATURE_DEF}:
        raise InvalidRequest(f"there is no metadata_field '{name}'; send {SIGNATURE_DEF}")


def signature_map(status: ModelStatus) -> pb.SignatureDefMap:
    """Describe all signatures by name, the default one also as `serving_default`.

    Raises Unavailable if none is known yet.
    """
    default = find_signature(status, "")
    signatures = {DEFAULT_SIGNATURE: default, **status.signatures}
    return pb.SignatureDefMap(
        signature_def={
            name: _definition(signature, status.learned if signature is default else None)
            for name, signature in signatures.items()
        }
    )


def _definition(signature: Signature, learned: Signature | None) -> tf.SignatureDef:
    learned = learned or Signature((), ())
    method = next((method for method in (CLASSIFY, REGRESS) if supports(signature, method)), PREDICT)
    return tf.SignatureDef(
        inputs=_tensor_infos(signature.inputs, learned.inputs),
        outputs=_tensor_infos(signature.outputs or learned.outputs, learned.outputs),
        method_name=method,
    )


def _tensor_infos(specs: Iterable[TensorSpec], learned: Iterable[TensorSpec]) -> dict[str, tf.TensorInfo]:
    return {
        spec.name: tf.TensorInfo(name=spec.name, dtype=DTYPES[spec.datatype], tensor_shape=shape_proto(spec.shape))
        for spec in complete_specs(specs, learned)
    }


def answered_spec(model: str, version: str, signature: str) -> pb.ModelSpec:
    """Return the ModelSpec of an inference's answer."""
    return model_spec(ModelStatus(model, version, "READY"), signature)


def model_spec(status: ModelStatus, signature: str = "") -> pb.ModelSpec:
    """Return the ModelSpec of an answer."""
    spec = pb.ModelSpec(name=status.name, signature_name=signature)
    spec.version.value = int(status.version or 0)
    return spec
