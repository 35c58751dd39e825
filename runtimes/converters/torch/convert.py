"""Converts TorchScript and torch.export to TFLite with litert-torch and to ONNX with torch.onnx."""

import os
import warnings
from typing import Any, Dict, List, Sequence, Tuple

import torch
from modelport_converter import symbolics
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch.utils._pytree import tree_leaves

from runtimes.contract import TensorSpec
from runtimes.conversion import Refused, Step, refuse_shared
from runtimes.converters.names import set_names
from runtimes.torchscript import fp32_program
from runtimes.torchscript.dtypes import to_tensor
from runtimes.torchscript.names import positions_of
from runtimes.torchscript.screening import load_screened

# Protobuf limits a file to 2 GiB (2.147e9 bytes), of which the graph needs some.
_MAX_IN_ONE_FILE = 2_000_000_000


def torchscript_to_tflite(step: Step) -> List[str]:
    module, example = _scripted(step)
    return _to_tflite(step, fp32_program.of_script(module, example), example)


def exported_to_tflite(step: Step) -> List[str]:
    program = load_screened(step.source)
    return _to_tflite(step, program, _example(step), positions_of(step.outputs, program.call_spec.out_spec))


class _Chosen(torch.nn.Module):
    """A program of which only these of its flat results are wanted, in this order."""

    def __init__(self, program: torch.nn.Module, positions: Sequence[int]) -> None:
        super().__init__()
        self.program, self._positions = program, positions

    def forward(self, *tensors: torch.Tensor) -> Tuple[Any, ...]:
        results = tree_leaves(self.program(*tensors))
        return tuple(results[position] for position in self._positions)


def torchscript_to_onnx(step: Step) -> None:
    """options: batch (number of rows; 0 keeps the dynamic sizes of the served model)."""
    module, example = _scripted(step)
    _to_onnx(step, module, example)


def torchscript_to_onnx_by_export(step: Step) -> List[str]:
    """Convert by way of torch.export, which infers shapes that the script does not contain."""
    module, example = _scripted(step)
    return _exported_to_onnx(step, fp32_program.of_script(module, example), example)


def torchscript_to_pt2(step: Step) -> None:
    """Write a program of torch.export, whose sizes are those of the example."""
    module, example = _scripted(step)
    torch.export.save(fp32_program.of_script(module, example), step.destination)


def exported_to_onnx(step: Step) -> List[str]:
    """Dynamic sizes of the program stay dynamic."""
    program = load_screened(step.source)
    chosen = positions_of(step.outputs, program.call_spec.out_spec)
    return _exported_to_onnx(step, program, _example(step), chosen)


def _exported_to_onnx(step: Step, program: Any, example: Tuple[Any, ...], chosen: Sequence[int] = ()) -> List[str]:
    """chosen: the positions of the served outputs among the program's results, if these are not all of them."""
    notes = []
    if datatypes := fp32_program.narrow_datatypes(program):
        program, notes = (
            fp32_program.in_fp32(program, example, _datatypes(step, chosen)),
            [fp32_program.note(datatypes)],
        )
    converted = torch.onnx.export(
        program, example, dynamo=True, verbose=False, input_names=[spec.name for spec in step.inputs]
    )
    assert converted is not None, "only the older converter returns nothing"
    graph = converted.model.graph
    if chosen:
        graph.outputs[:] = [graph.outputs[position] for position in chosen]
        RemoveUnusedNodesPass()(converted.model)
    for output, spec in zip(graph.outputs, step.outputs):
        refuse_shared([each.name for each in graph.inputs if each is not output], [spec.name])
        output.name = spec.name
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    converted.save(step.destination, external_data=size >= _MAX_IN_ONE_FILE)
    return notes


def _datatypes(step: Step, chosen: Sequence[int]) -> Dict[int, str]:
    """Return position among the program's results → datatype of the served output."""
    return dict(zip(chosen or range(len(step.outputs)), [spec.datatype for spec in step.outputs]))


def _scripted(step: Step) -> Tuple[Any, Tuple[Any, ...]]:
    module = torch.jit.load(step.source, map_location="cpu").eval()
    arguments = [argument.name for argument in module.forward.schema.arguments[1:]]
    names = [spec.name for spec in step.inputs]
    example = _example(step)
    # As in runtimes/torchscript/scripted.py, inputs match arguments by name if all names are arguments, else by
    # position.
    if all(name in arguments for name in names):
        inputs = dict(zip(names, example))
        remaining = arguments[len(names) :]
        if [name for name in arguments if name in inputs] != arguments[: len(names)]:
            raise Refused(
                "arguments before '%s' have no input, and torch's converters need all of them" % remaining[-1]
            )
        example = tuple(inputs[name] for name in arguments if name in inputs)
    return module, example


def _example(step: Step) -> Tuple[Any, ...]:
    example = step.example()
    return tuple(to_tensor(example[spec.name].copy()) for spec in step.inputs)


def _to_tflite(step: Step, program: Any, example: Tuple[Any, ...], chosen: Sequence[int] = ()) -> List[str]:
    """chosen: as for _exported_to_onnx."""
    import litert_torch

    notes = []
    if datatypes := fp32_program.narrow_datatypes(program):
        program = fp32_program.in_fp32(program, example, _datatypes(step, chosen), widen_weights=True)
        notes = [fp32_program.note(datatypes)]
    module = program.module()
    litert_torch.convert(_Chosen(module, chosen) if chosen else module, example).export(step.destination)
    set_names(step.destination, step)
    return notes


def _to_onnx(step: Step, module: Any, example: Tuple[Any, ...]) -> None:
    symbolics.register()
    refuse_shared([spec.name for spec in step.inputs], [spec.name for spec in step.outputs])
    tensors = [*module.parameters(), *module.buffers(), *example]
    if any(tensor.dtype is torch.bfloat16 for tensor in tensors):
        raise Refused("it keeps BF16, for which ONNX Runtime has few kernels")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module, example, step.destination, dynamo=False, opset_version=17,
                input_names=[spec.name for spec in step.inputs], output_names=[spec.name for spec in step.outputs],
                dynamic_axes=_axes(step.inputs + step.outputs) if not step.options.get("batch") else None,
            )  # fmt: skip
        except torch.onnx.errors.SymbolicValueError as error:
            # The rest of the message is a dump of the graph's value.
            raise Refused(str(error).split("[Caused by")[0].strip()) from error
    gather_weights(step.destination)


def gather_weights(path: str) -> None:
    """Merge external weights into one file. For models of 2 GB and more, torch.onnx writes a file per tensor."""
    import onnx

    folder = os.path.dirname(path)
    several = [name for name in os.listdir(folder) if name != os.path.basename(path)]
    if several:
        model = onnx.load(path)
        for name in several:
            os.remove(os.path.join(folder, name))
        weights = os.path.basename(path) + ".data"
        onnx.save(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=weights)


def _axes(specs: Tuple[TensorSpec, ...]) -> Dict[str, List[int]]:
    axes = {spec.name: [axis for axis, size in enumerate(spec.shape or ()) if size < 0] for spec in specs}
    return {name: found for name, found in axes.items() if found}
