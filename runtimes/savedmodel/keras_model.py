"""Makes one function with named inputs and outputs of a Keras model, whichever Keras loaded it."""

from functools import partial
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np
import tensorflow as tf

from runtimes.contract import LoadError

from .loaders import of_concrete_function
from .signatures import LoadedSignature

Structure = Any  # dicts, lists and tuples of something


class Traced(NamedTuple):
    """
    function  computes a dict of outputs, from tensors in the order of `inputs`
    inputs    by name
    resets    what to call before each run
    keep      what the function's variables belong to
    """

    function: Any
    inputs: Dict[str, tf.TensorSpec]
    resets: List[Callable[[], None]]
    keep: Any


def signature_of(traced: Traced) -> LoadedSignature:
    def call(arguments: Dict[str, tf.Tensor]) -> Dict[str, Any]:
        for reset in traced.resets:
            reset()
        return traced.function(*(arguments[name] for name in traced.inputs))

    return of_concrete_function(traced.function, traced.inputs, call, {}, calls_python=False, scalar_tables=True)


def trace(model: Any, keep_state: bool = False) -> Traced:
    """Trace a model of Keras 3 or tf_keras in inference mode. Raises LoadError if it cannot be served.

    keep_state: whether stateful recurrent layers start from where the run before ended, rather than from zero.
    """
    inputs = _inputs(model)
    output_names = list(getattr(_functional(model), "output_names", None) or ())
    specs: Dict[str, tf.TensorSpec] = {}
    for key, tensor in _leaves(inputs, ""):
        name = key or tensor.name
        if getattr(tensor, "sparse", False) or getattr(tensor, "ragged", False) or _is_composite(tensor):
            raise LoadError("input '%s' cannot be served: it is sparse or ragged, which the protocol lacks" % name)
        if name in specs:
            raise LoadError("the model has two inputs with the name '%s': give each its own" % name)
        specs[name] = tf.TensorSpec(tensor.shape, tensor.dtype)

    def serve(*tensors: Any) -> Dict[str, Any]:
        rest = iter(tensors)
        return _named(model(_filled(inputs, lambda: next(rest)), training=False), output_names)

    function = tf.function(serve, autograph=False).get_concrete_function(*specs.values())
    stateful = [] if keep_state else [layer for layer in model._flatten_layers() if getattr(layer, "stateful", False)]
    # Keras 3 cannot reset a layer of several cells itself, because its states are nested.
    states = [state for layer in stateful for state in tf.nest.flatten(getattr(layer, "states", ()))]
    resets = [partial(state.assign, np.zeros(state.shape)) for state in states if state is not None]
    return Traced(function, specs, resets, model)


def _is_composite(tensor: Any) -> bool:
    """Whether a symbolic input of tf_keras is sparse or ragged."""
    return not isinstance(getattr(tensor, "type_spec", tf.TensorSpec(())), tf.TensorSpec)


def _functional(model: Any) -> Any:
    """Return the model that a Sequential of Keras 3 consists of, and others themselves."""
    return getattr(model, "_functional", model)


def _inputs(model: Any) -> Structure:
    """Return the symbolic inputs, in the structure in which the model is called with them."""
    if not getattr(model, "inputs", None):
        raise LoadError(
            "the file does not say which inputs the model has: give it an Input layer, or call it once before it is "
            "saved"
        )
    if hasattr(_functional(model), "_inputs_struct"):
        return _functional(model)._inputs_struct
    nested = getattr(model, "_nested_inputs", None)  # in tf_keras, where a Sequential has none
    return model.inputs[0] if nested is None else nested


def _leaves(value: Structure, key: str) -> Iterator[Tuple[str, Any]]:
    """Yield the leaves of a structure in order, each with its keys joined; "" for one that is in no dict."""
    if isinstance(value, dict):
        for name in value:
            yield from _leaves(value[name], "%s_%s" % (key, name) if key else str(name))
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            yield from _leaves(each, "%s_%d" % (key, index) if key else "")
    else:
        yield key, value


def _filled(value: Structure, take: Callable[[], Any]) -> Structure:
    """Return the same structure with other leaves, in the order of `_leaves`."""
    if isinstance(value, dict):
        return {name: _filled(each, take) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_filled(each, take) for each in value]
    return take()


def _named(results: Structure, names: List[str]) -> Dict[str, Any]:
    leaves = list(_leaves(results, ""))
    if len(names) != len(leaves):
        names = ["output_%d" % index for index in range(len(leaves))]
    named: Dict[str, Any] = {}
    for (key, tensor), default in zip(leaves, names):
        name = unique = key or default
        count = 0
        while unique in named:  # a layer that is called twice
            count += 1
            unique = "%s_%d" % (name, count)
        named[unique] = tensor
    return named
