"""How TensorFlow Serving's clients name models, versions and signatures, over REST and gRPC."""

from typing import Any, NamedTuple

from gateway.domain.types import ModelStatus
from gateway.engine.protocol import Engine
from gateway.errors import NotFound
from gateway.generated import tensorflow_serving_pb2 as pb

# The name that most clients send, whatever the model's own name for the signature is.
DEFAULT_SIGNATURE = "serving_default"


def check_version(model: str, version: str, is_label: bool) -> None:
    """Raises NotFound for a number as a label, and for a version that is not a number."""
    if not version:
        return
    is_number = version.isascii() and version.isdigit()
    if is_number and is_label:
        raise NotFound(f"model '{model}' has no label '{version}'; a number is a version, not a label")
    if not is_number and not is_label:
        raise NotFound(f"model '{model}' has no version '{version}'; a version is a number, not a label")


def find_model(engine: Engine, model: str, version: str, is_label: bool) -> ModelStatus:
    """Find a version of a model by number or label. Raises NotFound."""
    check_version(model, version, is_label)
    return engine.model(model, version)


def signature_key(status: ModelStatus, name: str) -> str:
    """Return the engine's name of a signature. `serving_default` means the default one if none has that name."""
    return "" if name == DEFAULT_SIGNATURE and name not in status.signatures else name


class Spec(NamedTuple):
    """A ModelSpec. `version` is "" if there is none, and a label if `is_label` is set."""

    model: str
    version: str
    is_label: bool
    signature: str

    def find(self, engine: Engine) -> ModelStatus:
        """Raises NotFound."""
        return find_model(engine, self.model, self.version, self.is_label)


def read_spec(message: pb.ModelSpec) -> Spec:
    kind = message.WhichOneof("version_choice")
    version = ""
    if kind == "version":
        version = str(message.version.value)
    elif kind is not None:
        version = message.version_label
    return Spec(message.name, version, kind == "version_label", message.signature_name)


def model_of(message: Any) -> str:
    """Return the model that a message with a ModelSpec is for."""
    name: str = message.model_spec.name
    return name
