"""The two ways into a SavedModel. Both give the signatures that can be served, by name."""

from typing import Any, Callable, Dict, NamedTuple, Sequence, Tuple

import numpy as np
import tensorflow as tf
from tensorflow.python.saved_model.loader_impl import parse_saved_model

from runtimes.contract import LoadOptions, Signature, TensorSpec, datatype_of


class Entry(NamedTuple):
    """One signature: `run` takes arrays by input name and the wanted names, and gives arrays."""

    signature: Signature
    run: Callable[[Dict[str, np.ndarray], Sequence[str]], Dict[str, Any]]


def load_functions(folder: str) -> Dict[str, Entry]:
    loaded = tf.saved_model.load(folder)
    entries = {}
    for name, function in loaded.signatures.items():
        inputs = function.structured_input_signature[1]
        if not all(isinstance(spec, tf.TensorSpec) and _datatype(spec.dtype) for spec in inputs.values()):
            continue

        # `loaded` is a default, so that the variables live as long as the function.
        def run(arrays: Any, wanted: Any, function: Any = function, loaded: Any = loaded, inputs: Any = inputs) -> Any:
            results = function(**{key: tf.constant(arrays[key], spec.dtype) for key, spec in inputs.items()})
            return {key: results[key].numpy() for key in wanted}

        _add(entries, name, inputs, function.structured_outputs, run)
    return entries


def load_session(options: LoadOptions) -> Dict[str, Entry]:
    tags = [list(graph.meta_info_def.tags) for graph in parse_saved_model(options.artifact).meta_graphs]
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=options.threads, inter_op_parallelism_threads=1)
    config.gpu_options.allow_growth = True
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=config)
    chosen = next((group for group in tags if "serve" in group), tags[0])
    with graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, chosen, options.artifact)
    entries = {}
    for name, definition in loaded.signature_def.items():
        # Old builders wrote wrong datatypes and shapes into the definition; the graph's own are true.
        inputs = {key: _tensor(graph, info) for key, info in definition.inputs.items()}
        outputs = {key: _tensor(graph, info) for key, info in definition.outputs.items()}
        if not all(isinstance(tensor, tf.Tensor) and _datatype(tensor.dtype) for tensor in inputs.values()):
            continue

        def run(arrays: Any, wanted: Any, inputs: Any = inputs, outputs: Any = outputs) -> Any:
            fetches = {key: outputs[key] for key in wanted}
            return session.run(fetches, {inputs[key]: arrays[key] for key in inputs})

        _add(entries, name, inputs, outputs, run)
    return entries


def _tensor(graph: tf.Graph, info: Any) -> Any:
    """The tensor behind a signature's entry, or None for what is none (an operation, a sparse tensor)."""
    if info.WhichOneof("encoding") != "name" or ":" not in info.name:
        return None
    tensor = graph.get_tensor_by_name(info.name)
    if tensor.shape.rank is None and info.tensor_shape.dim:
        tensor.set_shape([None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim])
    return tensor


def _add(entries: Dict[str, Entry], name: str, inputs: Dict[str, Any], outputs: Dict[str, Any], run: Any) -> None:
    refused = {
        key: "it is %s, which the protocol lacks" % getattr(getattr(value, "dtype", None), "name", "not a tensor")
        for key, value in outputs.items()
        if value is None or not _datatype(value.dtype)
    }
    served = {key: value for key, value in outputs.items() if key not in refused}
    if not served:
        return
    entries[name] = Entry(Signature(_specs(inputs), _specs(served), refused), run)


def _specs(values: Dict[str, Any]) -> Tuple[TensorSpec, ...]:
    return tuple(TensorSpec(key, _datatype(value.dtype), _shape(value.shape)) for key, value in sorted(values.items()))


def _shape(shape: tf.TensorShape) -> Any:
    return None if shape.rank is None else tuple(-1 if size is None else size for size in shape.as_list())


def _datatype(dtype: tf.DType) -> str:
    """The protocol's name; "" where it has none."""
    if dtype.base_dtype in (tf.resource, tf.variant):  # numpy's object to TensorFlow, as strings are
        return ""
    try:
        return datatype_of(dtype.base_dtype.as_numpy_dtype)
    except (KeyError, TypeError):
        return ""
