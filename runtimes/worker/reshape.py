"""A model whose clients see other shapes than it has: the key `reshape` of Triton's config.pbtxt and of model.toml.

The worker uses the clients' shapes everywhere: in signatures, batches and metadata. The runtime sees the model's own.
This module translates between the two.
"""

from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from runtimes.checks import has_shape
from runtimes.contract import InvalidInput, Model, Request, ResponseSender, TensorSpec
from runtimes.control import Reshapes
from runtimes.worker.rows import Arrays
from runtimes.worker.streams import close
from runtimes.worker.wrapped import Wrapped


class Reshape(NamedTuple):
    """Two complete shapes with the same number of -1. The n-th -1 stands for the same size in both."""

    client_shape: Tuple[int, ...]
    model_shape: Tuple[int, ...]


def reshaped(model: Model, reshapes: Reshapes) -> Model:
    """Return `model` as clients see it, which is `model` itself if there is nothing to reshape."""
    inputs, outputs = [
        {name: Reshape(tuple(client), tuple(inner)) for name, (client, inner) in each.items()} for each in reshapes
    ]
    return Reshaped(model, inputs, outputs) if inputs or outputs else model


class Reshaped(Wrapped):
    """Reshapes the tensors of the default signature; the other signatures are unchanged."""

    def __init__(self, model: Model, inputs: Dict[str, Reshape], outputs: Dict[str, Reshape]) -> None:
        super().__init__(model)
        self._inputs, self._outputs = inputs, outputs
        self._default = next(iter(model.signatures))
        self.signatures = dict(model.signatures)
        own = model.signatures[self._default]
        self.signatures[self._default] = own._replace(
            inputs=tuple(_client_spec(spec, inputs) for spec in own.inputs),
            outputs=tuple(_client_spec(spec, outputs) for spec in own.outputs),
        )

    def infer(self, inputs: Arrays, outputs: Sequence[str], signature: str) -> Arrays:
        return self._to_client(self._model.infer(self._to_model(inputs, signature), outputs, signature), signature)

    def stream(self, inputs: Arrays, outputs: Sequence[str], signature: str) -> Iterator[Arrays]:
        answers = self._model.stream(self._to_model(inputs, signature), outputs, signature)
        try:
            for answer in answers:
                yield self._to_client(answer, signature)
        finally:
            close(answers)

    def infer_requests(self, requests: Sequence[Request], signature: str) -> List[Union[Arrays, Exception]]:
        answers: List[Union[Arrays, Exception]] = []
        inside = []
        for request in requests:
            try:
                inside.append(request._replace(inputs=self._to_model(request.inputs, signature)))
                answers.append({})
            except InvalidInput as error:
                answers.append(error)
        given = iter(self._model.infer_requests(inside, signature) if inside else ())
        for index, known in enumerate(answers):
            if not isinstance(known, Exception):
                answer = next(given)
                answers[index] = answer if isinstance(answer, Exception) else self._to_client(answer, signature)
        return answers

    def stream_request(self, request: Request, signature: str) -> Iterator[Arrays]:
        inside = request._replace(inputs=self._to_model(request.inputs, signature))
        answers = self._model.stream_request(inside, signature)
        try:
            for answer in answers:
                yield self._to_client(answer, signature)
        finally:
            close(answers)

    def serve_request(self, request: Request, sender: ResponseSender, signature: str) -> None:
        inside = request._replace(inputs=self._to_model(request.inputs, signature))
        reshaping = _ReshapingSender(sender, lambda outputs: self._to_client(outputs, signature))
        self._model.serve_request(inside, reshaping, signature)

    def start(self, inputs: Arrays, outputs: Sequence[str], signature: str) -> Any:
        return signature, self._model.start(self._to_model(inputs, signature), outputs, signature)

    def finish(self, handle: Any) -> Arrays:
        signature, handle_of_model = handle
        return self._to_client(self._model.finish(handle_of_model), signature)

    def inside(self, inputs: Arrays, signature: str) -> Tuple[Model, Arrays]:
        """Return the runtime's own model, and inputs as it sees them."""
        return self._model, self._to_model(inputs, signature)

    def _to_model(self, inputs: Arrays, signature: str) -> Arrays:
        if signature not in ("", self._default):
            return inputs
        reshaped_inputs = dict(inputs)
        for name, (client_shape, model_shape) in self._inputs.items():
            if name in reshaped_inputs:
                shape = _fill(reshaped_inputs[name].shape, client_shape, model_shape)
                if shape is None:
                    raise InvalidInput(
                        "input '%s' has shape %s, expected %s"
                        % (name, list(reshaped_inputs[name].shape), list(client_shape))
                    )
                reshaped_inputs[name] = reshaped_inputs[name].reshape(shape)
        return reshaped_inputs

    def _to_client(self, outputs: Arrays, signature: str) -> Arrays:
        if signature not in ("", self._default):
            return outputs
        reshaped_outputs = dict(outputs)
        for name, (client_shape, model_shape) in self._outputs.items():
            if name in reshaped_outputs:
                shape = _fill(reshaped_outputs[name].shape, model_shape, client_shape)
                if shape is None:
                    # This is an error in the configuration, not in the request.
                    raise RuntimeError(
                        "output '%s' has shape %s, but its reshape says %s"
                        % (name, list(reshaped_outputs[name].shape), list(model_shape))
                    )
                reshaped_outputs[name] = reshaped_outputs[name].reshape(shape)
        return reshaped_outputs


class _ReshapingSender(ResponseSender):
    """Gives answers the shapes that clients see."""

    def __init__(self, sender: ResponseSender, to_client: Callable[[Arrays], Arrays]) -> None:
        self._sender, self._to_client = sender, to_client

    @property
    def cancelled(self) -> bool:
        return self._sender.cancelled

    def send(self, outputs: Arrays) -> None:
        self._sender.send(self._to_client(outputs))

    def end(self) -> None:
        self._sender.end()

    def fail(self, error: Exception) -> None:
        self._sender.fail(error)


def _client_spec(spec: TensorSpec, reshapes: Dict[str, Reshape]) -> TensorSpec:
    return spec._replace(shape=reshapes[spec.name].client_shape) if spec.name in reshapes else spec


def _fill(shape: Sequence[int], before: Sequence[int], after: Sequence[int]) -> Optional[Tuple[int, ...]]:
    """Return `after` with its -1 replaced by the sizes of `shape` where `before` has -1; None if they do not fit."""
    if not has_shape(shape, before):
        return None
    free = iter([size for want, size in zip(before, shape) if want == -1])
    return tuple(next(free) if size == -1 else size for size in after)
