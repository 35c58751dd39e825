"""Whether answers of dialects that leave out the name of a model's only output have it nevertheless."""

from gateway.domain.types import InferRequest, ModelStatus


def are_named(status: ModelStatus, request: InferRequest) -> bool:
    """Return whether an answer names its output even if it has only one.

    A pipeline may leave outputs out, and values without a name would not say which output they are.
    """
    signature = status.signature(request.signature)
    outputs = request.outputs or (signature.outputs if signature else ())
    return bool(status.steps) and len(outputs) > 1
