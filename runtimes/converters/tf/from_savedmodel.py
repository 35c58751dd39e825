"""Converts a SavedModel to TFLite with TensorFlow's own converter and to ONNX with tf2onnx."""

from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import numpy as np
import onnx_ir as ir
import tensorflow as tf
from modelport_converter.from_onnx import renamed
from modelport_converter.simplify import simplified

from runtimes.contract import TensorSpec, numpy_dtype
from runtimes.conversion import Refused, Step
from runtimes.converters.names import set_names
from runtimes.savedmodel.composites import parts_of, tensors_of
from runtimes.savedmodel.tags import serving_graph, tags_of

_OLD_VARIABLES = ("Variable", "VariableV2")


def savedmodel_to_tflite(step: Step) -> None:
    """options: batch (number of rows; 0 keeps it dynamic), quantize ("", "float16", "dynamic", "int8")."""
    function = frozen(step)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], function)
    mode = step.options.get("quantize", "")
    if mode:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if mode == "int8":
        converter.representative_dataset = lambda: _rows(step)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    with open(step.destination, "wb") as file:
        file.write(converter.convert())
    # The converter keeps the order of the inputs and outputs, but not their names.
    set_names(step.destination, step)


def save_plain(step: Step, folder: str) -> None:
    """Save the served signature as a frozen SavedModel with the inputs input_000, … and the outputs output_000, …"""
    function = simplified(frozen(step))
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype, "input_%03d" % n) for n, tensor in enumerate(function.inputs)]
    module = tf.Module()

    @tf.function(autograph=False, input_signature=specs)
    def served(*arrays: Any) -> Dict[str, Any]:
        return {"output_%03d" % n: result for n, result in enumerate(function(*arrays))}

    tf.saved_model.save(module, folder, signatures={"serving_default": served.get_concrete_function()})


def savedmodel_to_onnx(step: Step) -> None:
    import tf2onnx
    from modelport_converter import tf2onnx_patches

    tf2onnx_patches.apply()
    function = simplified(frozen(step))
    graph = function.graph.as_graph_def()
    inputs = [tensor.name for tensor in function.inputs]
    outputs = [tensor.name for tensor in function.outputs]
    model, _ = tf2onnx.convert.from_graph_def(
        graph, input_names=inputs, output_names=outputs, opset=17,
        shape_override={
            name: [size if size >= 0 else None for size in spec.shape or ()] for name, spec in zip(inputs, step.inputs)
        },
    )  # fmt: skip
    names = [spec.name for spec in step.inputs], [spec.name for spec in step.outputs]
    ir.save(renamed(ir.from_proto(model), inputs, outputs, *names), step.destination)


def _rows(step: Step) -> Iterator[List[np.ndarray]]:
    """Yield the calibration data row by row."""
    for file in step.calibration:
        with np.load(file, allow_pickle=False) as arrays:
            inputs = [arrays[spec.name] for spec in step.inputs]
        for row in range(len(inputs[0]) if inputs[0].ndim else 1):
            yield [array[row : row + 1] if array.ndim else array for array in inputs]


def frozen(step: Step) -> Any:
    """Return the served signature as one graph without variables, with inputs and outputs in the served order."""
    batch = step.options.get("batch", 0)
    specs = [
        tf.TensorSpec(_shape(step, spec, batch), tf.as_dtype(numpy_dtype(spec.datatype)), name="input_%d" % n)
        for n, spec in enumerate(step.inputs)
    ]
    call = _callable(step)

    def served(*arrays: Any) -> List[Any]:
        results = call(dict(zip([spec.name for spec in step.inputs], arrays)))
        return [tf.identity(results[spec.name], name="output_%d" % n) for n, spec in enumerate(step.outputs)]

    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = tf.function(served, autograph=False).get_concrete_function(*specs)
    constant = convert_variables_to_constants_v2(concrete, lower_control_flow=False, aggressive_inlining=True)
    if len(constant.inputs) != len(specs):
        raise Refused("the model has resources, such as tables, that cannot be frozen into a graph")
    return constant


def _shape(step: Step, spec: TensorSpec, batch: int) -> Tuple[Any, ...]:
    if batch:
        return tuple(step.shapes[spec.name])
    return tuple(None if size < 0 else size for size in spec.shape or ())


def _callable(step: Step) -> Callable[[Dict[str, Any]], Dict[str, Any]]:
    """Return the signature as a function of named inputs. If TensorFlow 2's loader fails, TensorFlow 1's is used."""
    graph = serving_graph(step.source)
    tags, defaults = tags_of(graph), _defaults(graph, step)
    if any(node.op in _OLD_VARIABLES for node in graph.graph_def.node):
        return _from_session(step, tags, defaults)  # TensorFlow 2 loads these, but cannot freeze them
    try:
        loaded = tf.saved_model.load(step.source, tags=tags)
        function = loaded.signatures[step.signature]
    except Exception as error:  # noqa: BLE001 - the runtime has tried the same; see runtimes/savedmodel
        print("tf.saved_model.load failed (%s); trying TensorFlow 1's loader" % error)
        return _from_session(step, tags, defaults)

    # SavedModels that onnx2tf wrote name them by position, because a SavedModel does not allow every name.
    arguments, results_by_name = function.structured_input_signature[1], _parts(function.structured_outputs)
    inputs = {spec.name: _name(spec.name, arguments, "input_%d" % n) for n, spec in enumerate(step.inputs)}
    outputs = {spec.name: _name(spec.name, results_by_name, "output_%d" % n) for n, spec in enumerate(step.outputs)}

    # `keep` keeps the variables alive as long as the function.
    def call(arrays: Dict[str, Any], keep: Any = loaded) -> Dict[str, Any]:
        constants = {key: tf.constant(value) for key, value in defaults.items()}
        results = _parts(function(**{inputs[name]: array for name, array in arrays.items()}, **constants))
        return {name: results[key] for name, key in outputs.items()}

    return call


def _defaults(graph: Any, step: Step) -> Dict[str, Any]:
    """Return the default values of those inputs that the export does not have."""
    exported = {spec.name for spec in step.inputs}
    values = graph.signature_def[step.signature].defaults
    return {key: tf.make_ndarray(value) for key, value in values.items() if key not in exported}


def _parts(results: Dict[str, Any]) -> Dict[str, Any]:
    """Return the results with ragged and sparse tensors as the tensors that they consist of."""
    return {name: part for key, value in results.items() for name, part in parts_of(key, value).items()}


def _name(name: str, known: Any, fallback: str) -> str:
    return name if name in known else fallback


def _from_session(
    step: Step, tags: Sequence[str], defaults: Dict[str, Any]
) -> Callable[[Dict[str, Any]], Dict[str, Any]]:
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        definition = tf.compat.v1.saved_model.load(session, tags, step.source).signature_def[step.signature]
        inputs = {key: info.name for key, info in definition.inputs.items()}
        results = {
            name: tensor for key, info in definition.outputs.items() for name, tensor in tensors_of(key, info).items()
        }
        outputs = {spec.name: results[spec.name] for spec in step.outputs}
        # Replaces variables by constants, and removes what only training needs.
        frozen = tf.compat.v1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), [name.split(":")[0] for name in outputs.values()]
        )

    def call(arrays: Dict[str, Any]) -> Dict[str, Any]:
        constants = {key: tf.constant(value) for key, value in defaults.items()}
        fed = {inputs[key]: value for key, value in {**constants, **arrays}.items()}
        results = tf.graph_util.import_graph_def(frozen, fed, list(outputs.values()), name="served")
        return dict(zip(outputs, results))

    return call
