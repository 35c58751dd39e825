"""What TensorFlow Serving's clients call models, versions and signatures: the same in REST and gRPC."""

from gateway.domain.types import ModelStatus
from gateway.engine.protocol import Engine
from gateway.errors import NotFound

# What nearly every client writes, whatever the model calls it.
DEFAULT_SIGNATURE = "serving_default"


def check_version(model: str, version: str, is_label: bool) -> None:
    """A number is no label, and a label no number: raises NotFound."""
    if not version:
        return
    is_number = version.isascii() and version.isdigit()
    if is_number and is_label:
        raise NotFound(f"model '{model}' has no label '{version}'; a number is a version, not a label")
    if not is_number and not is_label:
        raise NotFound(f"model '{model}' has no version '{version}'; a version is a number, and a label is no version")


def find_model(engine: Engine, model: str, version: str, is_label: bool) -> ModelStatus:
    """Raises NotFound."""
    check_version(model, version, is_label)
    return engine.model(model, version)


def signature_key(status: ModelStatus, name: str) -> str:
    """The signature as the engine calls it. A model without a `serving_default` has its default one under that name."""
    return "" if name == DEFAULT_SIGNATURE and name not in status.signatures else name
