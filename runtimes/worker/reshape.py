"""A model whose clients see other shapes than it has: Triton's `reshape`, and model.toml's.

The worker sees the clients' shapes everywhere, in signatures, batches and metadata; the runtime sees its
own. What lies between is here.
"""

from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from runtimes.contract import BatchAnalysis, InputRange, InvalidInput, Model, Signature, TensorSpec
from runtimes.control import Reshapes
from runtimes.worker.rows import Arrays


class Reshape(NamedTuple):
    """Both are whole shapes, with as many -1: each of `inside` is the size of the one of `outside` in its place."""

    outside: Tuple[int, ...]
    inside: Tuple[int, ...]


def reshaped(model: Model, reshapes: Reshapes) -> Model:
    """`model` as clients see it; itself where nothing differs."""
    inputs, outputs = [
        {name: Reshape(tuple(outside), tuple(inside)) for name, (outside, inside) in each.items()} for each in reshapes
    ]
    return Reshaped(model, inputs, outputs) if inputs or outputs else model


class Reshaped(Model):
    """Of the default signature; the others are as they are."""

    def __init__(self, model: Model, inputs: Dict[str, Reshape], outputs: Dict[str, Reshape]) -> None:
        self._model, self._inputs, self._outputs = model, inputs, outputs
        self._default = next(iter(model.signatures))
        self.pipelined = model.pipelined
        self.signatures = dict(model.signatures)
        told = model.signatures[self._default]
        self.signatures[self._default] = Signature(
            tuple(_outside(spec, inputs) for spec in told.inputs),
            tuple(_outside(spec, outputs) for spec in told.outputs),
            told.refused,
        )

    def infer(self, inputs: Arrays, outputs: Sequence[str], signature: str) -> Arrays:
        return self._outward(self._model.infer(self._inward(inputs, signature), outputs, signature), signature)

    def start(self, inputs: Arrays, outputs: Sequence[str], signature: str) -> Any:
        return signature, self._model.start(self._inward(inputs, signature), outputs, signature)

    def finish(self, handle: Any) -> Arrays:
        signature, begun = handle
        return self._outward(self._model.finish(begun), signature)

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        return self._model.analyze_batch(signature)

    def input_ranges(self, signature: str) -> Dict[str, InputRange]:
        return self._model.input_ranges(signature)

    def empty(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        return self._model.empty(shape, dtype)

    def close(self) -> None:
        self._model.close()

    def _inward(self, inputs: Arrays, signature: str) -> Arrays:
        if signature not in ("", self._default):
            return inputs
        given = dict(inputs)
        for name, (outside, inside) in self._inputs.items():
            if name in given:
                shape = _filled(given[name].shape, outside, inside)
                if shape is None:
                    told = name, list(given[name].shape), list(outside)
                    raise InvalidInput("input '%s' has shape %s, expected %s" % told)
                given[name] = given[name].reshape(shape)
        return given

    def _outward(self, outputs: Arrays, signature: str) -> Arrays:
        if signature not in ("", self._default):
            return outputs
        told = dict(outputs)
        for name, (outside, inside) in self._outputs.items():
            if name in told:
                shape = _filled(told[name].shape, inside, outside)
                if shape is None:
                    # The configuration's fault, and not the client's.
                    raise RuntimeError(
                        "output '%s' has shape %s, but its reshape says %s"
                        % (name, list(told[name].shape), list(inside))
                    )
                told[name] = told[name].reshape(shape)
        return told


def _outside(spec: TensorSpec, reshapes: Dict[str, Reshape]) -> TensorSpec:
    return spec._replace(shape=reshapes[spec.name].outside) if spec.name in reshapes else spec


def _filled(shape: Sequence[int], before: Sequence[int], after: Sequence[int]) -> Optional[Tuple[int, ...]]:
    """`after`, with its -1 filled in as they are in `shape`; None where `shape` does not fit `before`."""
    if len(shape) != len(before) or any(want not in (-1, size) for want, size in zip(before, shape)):
        return None
    free = iter([size for want, size in zip(before, shape) if want == -1])
    return tuple(next(free) if size == -1 else size for size in after)
