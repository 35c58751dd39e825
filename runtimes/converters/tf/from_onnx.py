"""From ONNX: to TFLite and to SavedModel by onnx2tf; and ONNX made smaller by ONNX Runtime's quantiser."""

import glob
import os
import shutil
import tempfile
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import onnx_ir as ir

from runtimes.conversion import Refused, Step
from runtimes.converters.names import set_names

_SIGNATURE = "serving_default"
# Of onnxsim 0.6.5: it makes a Pad of zeros part of the pooling behind it, whose own padding never wins in a MaxPool.
_WRONG_OPTIMIZERS = ["fuse_pad_into_pool"]


def onnx_to_tflite(step: Step) -> None:
    """options: batch (rows, 0 for what is open), pseudo (names of operators that are approximated by others)."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(step.destination)) as folder:
        inputs, outputs = _run_onnx2tf(step, folder, saved_model=False)
        files = glob.glob(os.path.join(folder, "*_float32.tflite"))
        if len(files) != 1:
            raise Refused("onnx2tf ended without a float32 .tflite")
        set_names(files[0], step, inputs, outputs)
        shutil.move(files[0], step.destination)


def onnx_to_savedmodel(step: Step) -> None:
    """The SavedModel has the signature serving_default with the names input_0, …, output_0, …"""
    import tensorflow as tf

    with tempfile.TemporaryDirectory(dir=os.path.dirname(step.destination)) as folder:
        inputs, outputs = _run_onnx2tf(step, folder, saved_model=True)
        found = glob.glob(os.path.join(folder, "**", "saved_model.pb"), recursive=True)
        if not found:
            raise Refused("onnx2tf ended without a SavedModel")
        loaded = tf.saved_model.load(os.path.dirname(found[0]))
        function = loaded.signatures[_SIGNATURE]
        takes = sorted(function.structured_input_signature[1])
        gives = sorted(function.structured_outputs)
        if not set(inputs) <= set(takes) or not set(outputs) <= set(gives):
            raise Refused("onnx2tf's SavedModel takes %s and gives %s" % (", ".join(takes), ", ".join(gives)))
        module = tf.Module()
        module.loaded = loaded
        specs = [function.structured_input_signature[1][name] for name in inputs]

        @tf.function(
            autograph=False, input_signature=[tf.TensorSpec(s.shape, s.dtype, n) for s, n in zip(specs, inputs)]
        )
        def served(*arrays: Any) -> Dict[str, Any]:
            results = function(**dict(zip(inputs, arrays)))
            return {name: results[name] for name in outputs}

        tf.saved_model.save(module, step.destination, signatures={_SIGNATURE: served.get_concrete_function()})


def _run_onnx2tf(step: Step, folder: str, saved_model: bool) -> Any:
    """The names of inputs and outputs in what onnx2tf wrote into the folder."""
    import onnx
    import onnx2tf
    from modelport_converter import scans, stable

    inputs = ["input_%d" % place for place in range(len(step.inputs))]
    outputs = ["output_%d" % place for place in range(len(step.outputs))]
    prepared = os.path.join(folder, "prepared.onnx")
    # A name with a colon is overlooked by -kat, and the file is written to by onnx2tf: so it gets one of its own.
    model, sizes = _served(step), [spec.shape for spec in step.outputs]
    if step.options.get("batch"):  # before outputs are pinned: onnxsim would take away what pins them
        model, sizes = _with_sizes(model, step)
    written = _prepared(ir.from_proto(model), step, inputs, outputs, sizes)
    stable.write_out(written)
    model = ir.to_proto(written)
    onnx.save(scans.written_out(model), prepared)
    if saved_model:
        _made_expressible(prepared)
    onnx2tf.convert(
        input_onnx_file_path=prepared,
        output_folder_path=folder,
        non_verbose=True,
        keep_shape_absolutely_input_names=inputs,
        copy_onnx_input_output_names_to_tflite=True,
        batch_size=1 if _has_batch(step) else None,
        overwrite_input_shape=None if _has_batch(step) else _overwritten(step, inputs),
        replace_to_pseudo_operators=step.options.get("pseudo") or None,
        flatbuffer_direct_output_saved_model=saved_model,
        tflite_backend="flatbuffer_direct",
        # It would run whatever program of that name the user's PATH has, which takes away what pins outputs.
        not_use_onnxsim=True,
    )
    return inputs, outputs


def _served(step: Step) -> Any:
    """The model without the outputs that are not served, maps say, and without what only they need."""
    import onnx

    model = onnx.load(step.source)
    graph = model.graph
    wanted = [value for value in graph.output if value.name in {spec.name for spec in step.outputs}]
    if len(wanted) < len(graph.output):
        del graph.output[:]
        graph.output.extend(wanted)
        needed = {value.name for value in wanted}
        kept = []
        for node in reversed(graph.node):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        del graph.node[:], graph.value_info[:]
        graph.node.extend(reversed(kept))
    return model


def _is_open_image(shape: Optional[Sequence[int]]) -> bool:
    return shape is not None and len(shape) == 4 and -1 in shape[1:]


def _fixed(model: Any, shapes: Dict[str, Sequence[int]]) -> Any:
    """With no size left open, what the graph computes of shapes becomes constants, which onnx2tf needs."""
    import onnxsim

    sizes = {name: list(shape) for name, shape in shapes.items()}
    return onnxsim.simplify(model, overwrite_input_shapes=sizes, skipped_optimizers=_WRONG_OPTIMIZERS)[0]


def _with_sizes(model: Any, step: Step) -> Tuple[Any, List[Optional[Tuple[int, ...]]]]:
    """The model with its sizes fixed, and its outputs' sizes: of images that were open, those that they get."""
    import onnx

    fixed = _fixed(model, step.shapes)
    for output in fixed.graph.output:  # what is open there would stay so
        output.type.tensor_type.ClearField("shape")
    fixed = onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    found = {value.name: value.type.tensor_type.shape.dim for value in fixed.graph.output}
    return fixed, [
        tuple(dim.dim_value or -1 for dim in found[spec.name]) if _is_open_image(spec.shape) else spec.shape
        for spec in step.outputs
    ]


def _made_expressible(path: str) -> None:
    """What onnx2tf cannot write into a SavedModel gets another form, or a kernel here."""
    import onnx
    from modelport_converter import onnx2tf_faults, recurrent

    onnx2tf_faults.meet()
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True))
    recurrent.write_out(model)
    ir.save(model, path)


def _has_batch(step: Step) -> bool:
    """Whether a batch is all that is open in the inputs."""
    return all(spec.shape and spec.shape[0] == -1 and -1 not in spec.shape[1:] for spec in step.inputs)


def _overwritten(step: Step, inputs: Sequence[str]) -> List[str]:
    return [
        "%s:%s" % (name, ",".join(str(size) for size in step.shapes[spec.name]))
        for name, spec in zip(inputs, step.inputs)
        if -1 in (spec.shape or ()) and step.shapes[spec.name]
    ] or None  # type: ignore[return-value]


def _prepared(
    model: Any, step: Step, inputs: List[str], outputs: List[str], sizes: Sequence[Optional[Tuple[int, ...]]]
) -> Any:
    """Plain names, and outputs pinned that onnx2tf would give another layout, or lose: twins."""
    named = renamed(model, [spec.name for spec in step.inputs], [spec.name for spec in step.outputs], inputs, outputs)
    origins = [_origin(value) for value in named.graph.outputs]
    for place, shape in enumerate(sizes):
        if shape is None or -1 in shape[1:]:
            continue
        value = whole = named.graph.outputs[place]
        if origins[place] in origins[:place] and shape and shape[-1] > 0:
            whole = _copied(named.graph, whole, shape[-1])
        elif len(shape) >= 3 and value.uses() and value.producer() and value.producer().op_type == "Transpose":
            whole = _transposed_again(named.graph, value.producer())
        if len(shape) >= 3:
            whole = _reshaped(named.graph, _reshaped(named.graph, whole, [-1]), list(shape))
        if whole is not value:
            whole.shape, whole.dtype = value.shape, value.dtype
            value.name, whole.name = outputs[place] + "_unpinned", outputs[place]
            named.graph.outputs[place] = whole
    return named


def _origin(value: Any) -> Any:
    """What a value is another name of."""
    node = value.producer()
    while node is not None and node.op_type == "Identity" and not node.domain:
        value = node.inputs[0]
        node = value.producer()
    return value


def _copied(graph: Any, value: Any, last: int) -> Any:
    """The first half of the value beside itself: onnx2tf takes a plain copy for the value."""
    both = ir.node("Concat", [value, value], attributes={"axis": -1})
    numbers = ir.node("Constant", [], attributes={"value": ir.tensor(np.arange(last))})
    half = ir.node("Gather", [both.outputs[0], numbers.outputs[0]], attributes={"axis": -1})
    graph.extend([both, numbers, half])
    return half.outputs[0]


def _transposed_again(graph: Any, transpose: Any) -> Any:
    """What others use too and a pin follows, onnx2tf takes out of the graph, and then looks for."""
    order = transpose.attributes.get("perm")
    again = ir.node("Transpose", transpose.inputs, attributes={"perm": order.as_ints()} if order else {})
    graph.append(again)
    return again.outputs[0]


def _reshaped(graph: Any, value: Any, shape: List[int]) -> Any:
    sizes = ir.node("Constant", [], attributes={"value": ir.tensor(np.array(shape, np.int64))})
    node = ir.node("Reshape", [value, sizes.outputs[0]])
    graph.extend([sizes, node])
    return node.outputs[0]


def renamed(
    model: Any, inputs: Sequence[str], outputs: Sequence[str], new_inputs: Sequence[str], new_outputs: Sequence[str]
) -> Any:
    """The model with these inputs and outputs, in this order, by their new names. Raises Refused."""
    graph = model.graph
    takes = {value.name: value for value in graph.inputs}
    gives = {value.name: value for value in graph.outputs}
    lost = [name for name in inputs if name not in takes] + [name for name in outputs if name not in gives]
    if lost:
        raise Refused("the ONNX model lacks '%s'" % "', '".join(lost))
    chosen = [takes[name] for name in inputs]
    results = []
    for value in [gives[name] for name in outputs]:
        if value in chosen or value in results:  # which can have one name only
            node = ir.node("Identity", [value])
            node.outputs[0].shape, node.outputs[0].dtype = value.shape, value.dtype
            graph.append(node)
            value = node.outputs[0]
        results.append(value)
    for number, value in enumerate(_values(graph)):
        if value.name in {*new_inputs, *new_outputs}:
            value.name = "inner_%d_%s" % (number, value.name)
    for value, name in [*zip(chosen, new_inputs), *zip(results, new_outputs)]:
        value.name = name
    graph.inputs[:] = [*chosen, *(value for value in graph.inputs if value not in chosen)]
    graph.outputs[:] = results
    return model


def _values(graph: Any) -> Iterator[Any]:
    """All that has a name: inputs, initializers, and what the nodes give, those of inner graphs too."""
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph.all_nodes():
        yield from node.outputs


def quantize_onnx(step: Step) -> None:
    """options: quantize ("float16", "dynamic", "int8")."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

    mode = step.options["quantize"]
    if mode == "float16":
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        onnx.save(convert_float_to_float16(onnx.load(step.source), keep_io_types=True), step.destination)
    elif mode == "dynamic":
        quantize_dynamic(step.source, step.destination, weight_type=QuantType.QInt8)
    else:

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self._files = iter(step.calibration)

            def get_next(self) -> Any:
                file = next(self._files, None)
                if file is None:
                    return None
                with np.load(file, allow_pickle=False) as arrays:
                    return {spec.name: arrays[spec.name] for spec in step.inputs}

        quantize_static(step.source, step.destination, Reader(), per_channel=True)
