"""Exported programs (torch.export.save): names, shapes and datatypes are all in the artifact.

A dimension is -1 where the export made it dynamic. Bounds that the export put on such a dimension
are checked by the program itself. Outputs of a dict are named by its keys; the names that the
graph gives them are internal.
"""

from types import BuiltinFunctionType
from typing import Any, Dict, List, Sequence, Tuple

import torch
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, SymIntArgument, TensorArgument
from torch.utils._pytree import TreeSpec, tree_unflatten

from runtimes.checks import declared_inputs, declared_outputs
from runtimes.contract import LoadError, LoadOptions, Signature, TensorSpec, datatype_of, unnamed_outputs
from runtimes.torchscript.program import Program, sentence

_GIVEN = object()  # stands where a value of the request goes


def load(options: LoadOptions) -> Program:
    try:
        exported = torch.export.load(options.artifact)
        if options.device != "cpu":
            from torch.export.passes import move_to_device_pass

            exported = move_to_device_pass(exported, options.device)
        module = exported.module()
    except Exception as error:
        raise LoadError("PyTorch cannot load this exported program: %s" % sentence(error)) from error
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    inputs, leaves = _inputs(exported, values)
    names = _output_names(exported.call_spec.out_spec)
    outputs, refused = _outputs(exported, values, names)
    in_spec = exported.call_spec.in_spec

    def call(given: List[Any]) -> Any:
        rest = iter(given)
        args, kwargs = tree_unflatten([next(rest) if leaf is _GIVEN else leaf for leaf in leaves], in_spec)
        return module(*args, **kwargs)

    return Program(
        call=call,
        scalars=[not isinstance(values[spec.name], torch.Tensor) for spec in inputs],
        signature=Signature(
            declared_inputs(options.inputs, inputs), declared_outputs(options.outputs, outputs), refused
        ),
        names=names,
        pure=_is_pure(exported),
        module=module,
    )


def _inputs(exported: Any, values: Dict[str, Any]) -> Tuple[Tuple[TensorSpec, ...], List[Any]]:
    """What a request gives, and the flat arguments with a mark in each of those places."""
    specs, leaves = [], []  # type: Tuple[List[TensorSpec], List[Any]]
    for item in exported.graph_signature.input_specs:
        if item.kind != InputKind.USER_INPUT:
            continue
        if isinstance(item.arg, ConstantArgument):
            leaves.append(item.arg.value)
        elif isinstance(item.arg, SymIntArgument):
            specs.append(TensorSpec(item.arg.name, "INT64", ()))
            leaves.append(_GIVEN)
        else:
            datatype, shape = _describe(values.get(item.arg.name))
            if not datatype:
                raise LoadError("input '%s' cannot be served: %s" % (item.arg.name, shape))
            specs.append(TensorSpec(item.arg.name, datatype, shape))
            leaves.append(_GIVEN)
    return tuple(specs), leaves


def _outputs(
    exported: Any, values: Dict[str, Any], names: Sequence[str]
) -> Tuple[Tuple[TensorSpec, ...], Dict[str, str]]:
    specs, refused = [], {}
    items = [item for item in exported.graph_signature.output_specs if item.kind == OutputKind.USER_OUTPUT]
    for name, item in zip(names, items):
        if isinstance(item.arg, SymIntArgument):
            specs.append(TensorSpec(name, "INT64", ()))
            continue
        datatype, shape = _describe(values.get(item.arg.name) if isinstance(item.arg, TensorArgument) else None)
        if datatype:
            specs.append(TensorSpec(name, datatype, shape))
        else:
            refused[name] = shape
    return tuple(specs), refused


def _describe(value: Any) -> Tuple[str, Any]:
    """Datatype and shape of a traced value; or "" and why it has none."""
    if not isinstance(value, torch.Tensor):
        return "", "it is not a tensor"
    try:
        datatype = datatype_of(torch.empty(0, dtype=value.dtype).numpy().dtype)
    except (TypeError, KeyError):
        return "", "it is %s, which the protocol lacks" % str(value.dtype).replace("torch.", "")
    return datatype, tuple(size if isinstance(size, int) else -1 for size in value.shape)


def _output_names(spec: TreeSpec) -> List[str]:
    # A NamedTuple cannot be here: torch.export.save refuses it.
    children = [] if spec.is_leaf() else spec.children()
    if not all(child.is_leaf() for child in children):
        raise LoadError("the model returns values inside values; nested outputs cannot be served")
    if spec.is_leaf():
        return unnamed_outputs(1)
    if issubclass(spec.type, dict):
        return [str(key) for key in spec.context]
    return unnamed_outputs(len(children))


def _is_pure(exported: Any) -> bool:
    """Whether no operation writes in place. When in doubt (a graph inside an operator): no."""
    signature = exported.graph_signature
    if signature.buffers_to_mutate or signature.user_inputs_to_mutate:
        return False
    targets = [node.target for node in exported.graph.nodes if node.op == "call_function"]
    schemas = [getattr(target, "_schema", None) for target in targets if not isinstance(target, BuiltinFunctionType)]
    return all(schema is not None and not schema.is_mutable for schema in schemas)
