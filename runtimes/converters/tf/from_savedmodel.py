"""From a SavedModel: to TFLite by TensorFlow's own converter, to ONNX by tf2onnx."""

from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import numpy as np
import onnx_ir as ir
import tensorflow as tf
from modelport_converter.from_onnx import renamed
from modelport_converter.simplify import simplified

from runtimes.contract import TensorSpec, numpy_dtype
from runtimes.conversion import Refused, Step
from runtimes.converters.names import set_names
from runtimes.savedmodel.tags import serving_tags


def savedmodel_to_tflite(step: Step) -> None:
    """options: batch (rows, 0 for any), quantize ("", "float16", "dynamic", "int8")."""
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
    # A function's inputs and outputs keep their order and have names of the converter's making.
    set_names(step.destination, step)


def save_plain(step: Step, folder: str) -> None:
    """A SavedModel of the served signature alone, frozen, that takes input_000, … and gives output_000, …"""
    function = simplified(frozen(step))
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype, "input_%03d" % n) for n, tensor in enumerate(function.inputs)]
    module = tf.Module()

    @tf.function(autograph=False, input_signature=specs)
    def served(*arrays: Any) -> Dict[str, Any]:
        return {"output_%03d" % place: result for place, result in enumerate(function(*arrays))}

    tf.saved_model.save(module, folder, signatures={"serving_default": served.get_concrete_function()})


def savedmodel_to_onnx(step: Step) -> None:
    import tf2onnx
    from modelport_converter import tf2onnx_faults

    tf2onnx_faults.meet()
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
    """What the quantiser sees of the data: a row at a time."""
    for file in step.calibration:
        with np.load(file, allow_pickle=False) as arrays:
            inputs = [arrays[spec.name] for spec in step.inputs]
        for row in range(len(inputs[0]) if inputs[0].ndim else 1):
            yield [array[row : row + 1] if array.ndim else array for array in inputs]


def frozen(step: Step) -> Any:
    """The served signature as one graph without variables, its inputs and outputs in the served order."""
    batch = step.options.get("batch", 0)
    specs = [
        tf.TensorSpec(_shape(step, spec, batch), tf.as_dtype(numpy_dtype(spec.datatype)), name="input_%d" % place)
        for place, spec in enumerate(step.inputs)
    ]
    call = _callable(step)

    def served(*arrays: Any) -> List[Any]:
        results = call(dict(zip([spec.name for spec in step.inputs], arrays)))
        return [tf.identity(results[spec.name], name="output_%d" % place) for place, spec in enumerate(step.outputs)]

    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = tf.function(served, autograph=False).get_concrete_function(*specs)
    constant = convert_variables_to_constants_v2(concrete, lower_control_flow=False, aggressive_inlining=True)
    if len(constant.inputs) != len(specs):
        raise Refused("the model holds resources that cannot be frozen into a graph: a table, say")
    return constant


def _shape(step: Step, spec: TensorSpec, batch: int) -> Tuple[Any, ...]:
    if batch:
        return tuple(step.shapes[spec.name])
    return tuple(None if size < 0 else size for size in spec.shape or ())


def _callable(step: Step) -> Callable[[Dict[str, Any]], Dict[str, Any]]:
    """The signature as a function of its inputs by name: by TensorFlow 2's loader, else by TensorFlow 1's."""
    tags = serving_tags(step.source)
    try:
        loaded = tf.saved_model.load(step.source, tags=tags)
        function = loaded.signatures[step.signature]
    except Exception as error:  # noqa: BLE001 - the runtime has tried the same; see runtimes/savedmodel
        print("tf.saved_model.load failed (%s); trying TensorFlow 1's loader" % error)
        return _from_session(step, tags)

    # What onnx2tf wrote calls them by their places: a SavedModel cannot have every name.
    takes, gives = function.structured_input_signature[1], function.structured_outputs
    inputs = {spec.name: _name(spec.name, takes, "input_%d" % place) for place, spec in enumerate(step.inputs)}
    outputs = {spec.name: _name(spec.name, gives, "output_%d" % place) for place, spec in enumerate(step.outputs)}

    def call(arrays: Dict[str, Any], keep: Any = loaded) -> Dict[str, Any]:
        results = function(**{inputs[name]: array for name, array in arrays.items()})
        return {name: results[given] for name, given in outputs.items()}

    return call


def _name(name: str, known: Any, by_place: str) -> str:
    return name if name in known else by_place


def _from_session(step: Step, tags: Sequence[str]) -> Callable[[Dict[str, Any]], Dict[str, Any]]:
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        definition = tf.compat.v1.saved_model.load(session, tags, step.source).signature_def[step.signature]
        inputs = {key: info.name for key, info in definition.inputs.items()}
        outputs = {key: info.name for key, info in definition.outputs.items()}
        # The constants of the graph's variables; what only training needs goes.
        frozen = tf.compat.v1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), [name.split(":")[0] for name in outputs.values()]
        )

    def call(arrays: Dict[str, Any]) -> Dict[str, Any]:
        fed = {inputs[key]: value for key, value in arrays.items()}
        results = tf.graph_util.import_graph_def(frozen, fed, list(outputs.values()), name="served")
        return dict(zip(outputs, results))

    return call
