"""Converts ONNX to TFLite and SavedModel with onnx2tf, and quantizes ONNX with ONNX Runtime."""

import glob
import os
import shutil
import tempfile
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import onnx_ir as ir

from runtimes.conversion import Refused, Step, refuse_shared
from runtimes.converters.names import set_names

_SIGNATURE = "serving_default"
# onnxsim 0.6.5 merges a Pad of zeros into the following pooling. In a MaxPool this is wrong: padded zeros can be the
# maximum, but MaxPool ignores its own padding.
_WRONG_OPTIMIZERS = ["fuse_pad_into_pool"]


def onnx_to_tflite(step: Step) -> None:
    """options: batch (number of rows; 0 keeps it dynamic), pseudo (operators that are approximated by others)."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(step.destination)) as folder:
        inputs, outputs = _run_onnx2tf(step, folder, saved_model=False)
        files = glob.glob(os.path.join(folder, "*_float32.tflite"))
        if len(files) != 1:
            raise Refused("onnx2tf did not write a float32 .tflite")
        set_names(files[0], step, inputs, outputs)
        shutil.move(files[0], step.destination)


def onnx_to_savedmodel(step: Step) -> None:
    """Write a SavedModel with the signature serving_default and the names input_0, …, output_0, …"""
    import tensorflow as tf

    with tempfile.TemporaryDirectory(dir=os.path.dirname(step.destination)) as folder:
        inputs, outputs = _run_onnx2tf(step, folder, saved_model=True)
        found = glob.glob(os.path.join(folder, "**", "saved_model.pb"), recursive=True)
        if not found:
            raise Refused("onnx2tf did not write a SavedModel")
        loaded = tf.saved_model.load(os.path.dirname(found[0]))
        function = loaded.signatures[_SIGNATURE]
        found_inputs = sorted(function.structured_input_signature[1])
        found_outputs = sorted(function.structured_outputs)
        if not set(inputs) <= set(found_inputs) or not set(outputs) <= set(found_outputs):
            raise Refused(
                "onnx2tf's SavedModel has other inputs (%s) or outputs (%s) than the model"
                % (", ".join(found_inputs), ", ".join(found_outputs))
            )
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
    """Run onnx2tf into the folder and return the names of the inputs and outputs in its files."""
    import onnx
    import onnx2tf
    from modelport_converter import scans, stable

    # onnx2tf's option keep_shape_absolutely_input_names overlooks names with a colon, so the model gets plain names,
    # and it writes to its input file, so it gets a copy.
    inputs = ["input_%d" % n for n in range(len(step.inputs))]
    outputs = ["output_%d" % n for n in range(len(step.outputs))]
    prepared = os.path.join(folder, "prepared.onnx")
    model, sizes = _served(step), [spec.shape for spec in step.outputs]
    if step.options.get("batch"):  # before outputs are pinned, because onnxsim would remove the pins
        model, sizes = _with_fixed_sizes(model, step)
    plain = _prepared(ir.from_proto(model), step, inputs, outputs, sizes)
    stable.rewrite(plain)
    onnx.save(scans.unroll(ir.to_proto(plain)), prepared)
    if saved_model:
        _make_expressible(prepared)
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
        # onnx2tf would run any program `onnxsim` on the user's PATH, and that would remove the pins of the outputs.
        not_use_onnxsim=True,
    )
    return inputs, outputs


def _served(step: Step) -> Any:
    """Return the model without the outputs that are not served, such as maps, and the nodes only they need."""
    import onnx

    model = onnx.load(step.source)
    graph = model.graph
    served = [value for value in graph.output if value.name in {spec.name for spec in step.outputs}]
    if len(served) < len(graph.output):
        del graph.output[:]
        graph.output.extend(served)
        needed = {value.name for value in served}
        kept = []
        for node in reversed(graph.node):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        del graph.node[:], graph.value_info[:]
        graph.node.extend(reversed(kept))
    return model


def _is_dynamic_image(shape: Optional[Sequence[int]]) -> bool:
    return shape is not None and len(shape) == 4 and -1 in shape[1:]


def _simplified(model: Any, shapes: Dict[str, Sequence[int]]) -> Any:
    """Fix all input sizes and fold what the graph computes from shapes into constants, which onnx2tf requires."""
    import onnxsim

    sizes = {name: list(shape) for name, shape in shapes.items()}
    return onnxsim.simplify(model, overwrite_input_shapes=sizes, skipped_optimizers=_WRONG_OPTIMIZERS)[0]


def _with_fixed_sizes(model: Any, step: Step) -> Tuple[Any, List[Optional[Tuple[int, ...]]]]:
    """Return the model with fixed sizes, and the shapes of its outputs, of which dynamic images become fixed."""
    import onnx

    fixed = _simplified(model, step.shapes)
    for output in fixed.graph.output:  # shape inference would keep dynamic sizes that are declared here
        output.type.tensor_type.ClearField("shape")
    fixed = onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    found = {value.name: value.type.tensor_type.shape.dim for value in fixed.graph.output}
    return fixed, [
        tuple(dim.dim_value or -1 for dim in found[spec.name]) if _is_dynamic_image(spec.shape) else spec.shape
        for spec in step.outputs
    ]


def _make_expressible(path: str) -> None:
    """Rewrite what onnx2tf cannot write into a SavedModel, and patch its kernels."""
    import onnx
    from modelport_converter import onnx2tf_patches, recurrent

    onnx2tf_patches.apply()
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True))
    recurrent.unroll(model)
    ir.save(model, path)


def _has_batch(step: Step) -> bool:
    """Whether the batch is the only dynamic size of each input."""
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
    """Return the model with plain names and with its outputs pinned.

    onnx2tf may change the layout of an output of rank 3 or more; reshaping it to one dimension and back prevents that.
    It also drops the second of two outputs that are the same value; an actual copy of the value prevents that.
    """
    named = renamed(model, [spec.name for spec in step.inputs], [spec.name for spec in step.outputs], inputs, outputs)
    origins = [_origin(value) for value in named.graph.outputs]
    for index, shape in enumerate(sizes):
        if shape is None or -1 in shape[1:]:
            continue
        value = pinned = named.graph.outputs[index]
        if origins[index] in origins[:index] and shape and shape[-1] > 0:
            pinned = _copied(named.graph, pinned, shape[-1])
        elif len(shape) >= 3 and value.uses() and value.producer() and value.producer().op_type == "Transpose":
            pinned = _transposed_again(named.graph, value.producer())
        if len(shape) >= 3:
            pinned = _reshaped(named.graph, _reshaped(named.graph, pinned, [-1]), list(shape))
        if pinned is not value:
            pinned.shape, pinned.dtype = value.shape, value.dtype
            value.name, pinned.name = outputs[index] + "_unpinned", outputs[index]
            named.graph.outputs[index] = pinned
    return named


def _origin(value: Any) -> Any:
    """Follow Identity nodes to the value that they copy."""
    node = value.producer()
    while node is not None and node.op_type == "Identity" and not node.domain:
        value = node.inputs[0]
        node = value.producer()
    return value


def _copied(graph: Any, value: Any, last: int) -> Any:
    """Copy a value as the first half of its concatenation with itself. onnx2tf treats an Identity as the value."""
    both = ir.node("Concat", [value, value], attributes={"axis": -1})
    indices = ir.node("Constant", [], attributes={"value": ir.tensor(np.arange(last))})
    half = ir.node("Gather", [both.outputs[0], indices.outputs[0]], attributes={"axis": -1})
    graph.extend([both, indices, half])
    return half.outputs[0]


def _transposed_again(graph: Any, transpose: Any) -> Any:
    """Duplicate a Transpose that has other readers. onnx2tf removes one that a pin follows, and then fails."""
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
    """Reorder and rename the model's inputs and outputs, in place. Raises Refused if it does not have one."""
    refuse_shared(new_inputs, new_outputs)
    graph = model.graph
    inputs_by_name = {value.name: value for value in graph.inputs}
    outputs_by_name = {value.name: value for value in graph.outputs}
    missing = [name for name in inputs if name not in inputs_by_name]
    missing += [name for name in outputs if name not in outputs_by_name]
    if missing:
        raise Refused("the ONNX model does not have '%s'" % "', '".join(missing))
    chosen = [inputs_by_name[name] for name in inputs]
    results = []
    for value in [outputs_by_name[name] for name in outputs]:
        if value in chosen or value in results:  # a value has only one name, so a second output needs a copy
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
    """Yield all named values: inputs, initializers, and the outputs of all nodes, including those in subgraphs."""
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
