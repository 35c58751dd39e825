"""Whether answers of dialects that leave out the name of a model's only output have it nevertheless."""

from gateway.domain.types import InferRequest, ModelStatus


def are_named(status: ModelStatus, request: InferRequest) -> bool:
    """Return whether an answer names its output even if it has only one.

    A pipeline may leave outputs out, and so does a model with a loss for requests without labels. Values without a name
    would not say which output they are, and clients would have to expect both forms.
    """
    signature = status.signature(request.signature)
    outputs = request.outputs or (signature.outputs if signature else ())
    return len(outputs) > 1
