"""Loads exported programs (torch.export.save). The artifact declares all names, shapes and datatypes.

A dimension that the export made dynamic is -1. The program itself checks the bounds that the export set for it. Outputs
are named by `names.py`, because the names in the graph are internal.
"""

import logging
import re
from types import BuiltinFunctionType
from typing import Any, Dict, List, Sequence, Tuple

import torch
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, SymIntArgument, TensorArgument
from torch.utils._pytree import tree_leaves, tree_unflatten

from runtimes.checks import declared_inputs, declared_outputs
from runtimes.contract import LoadError, LoadOptions, Signature, TensorSpec

from .analysis import ranges, read
from .dtypes import datatype_of_tensors
from .names import names_of
from .program import SCALAR, TENSOR, Program, client_message, datatype_problem
from .screening import screen

_UNKNOWN_OPERATOR = re.compile(r"failed to resolve (?:torch\.ops\.)?([\w.:]+)")
_OTHER_SCHEMA = re.compile(r"Serialized (?:schema )?version .* does not match our current schema version", re.DOTALL)
_OTHER_OUTPUT = re.compile(r"Unable to deserialize output node Argument\(as_(\w+)=")
_PICKLE = re.compile(r"Weights only load failed|WeightsUnpickler error")
_CONSTANTS = {bool: "BOOL", int: "INT64", float: "FP64", str: "BYTES"}
_PLACEHOLDER = object()  # marks the arguments that come from the request


def load(options: LoadOptions) -> Program:
    try:
        screen(options.artifact)
        exported = _load_archive(options.artifact)
        if options.device != "cpu":
            from torch.export.passes import move_to_device_pass

            exported = move_to_device_pass(exported, options.device)
        module = exported.module()
    except LoadError:
        raise
    except Exception as error:
        raise LoadError("PyTorch cannot load this exported program: %s" % client_message(error)) from error
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    inputs, leaves = _inputs(exported, values)
    names = names_of(exported.call_spec.out_spec)
    outputs, refused = _outputs(exported, values, names)
    if not outputs:
        raise LoadError("none of the model's outputs can be served: %s" % "; ".join(refused.values()))
    in_spec = exported.call_spec.in_spec
    arguments, keywords = in_spec.children()
    is_flat = len(inputs) == len(leaves) == arguments.num_children == arguments.num_leaves and not keywords.num_children
    served = {spec.name for spec in outputs}

    def call(given: List[Any]) -> Any:
        if is_flat:
            return module(*given)
        rest = iter(given)
        args, kwargs = tree_unflatten([next(rest) if leaf is _PLACEHOLDER else leaf for leaf in leaves], in_spec)
        return module(*args, **kwargs)

    return Program(
        call=call,
        kinds=[TENSOR if isinstance(values[spec.name], torch.Tensor) else SCALAR for spec in inputs],
        signature=Signature(
            declared_inputs(options.inputs, inputs), declared_outputs(options.outputs, outputs), refused
        ),
        name=lambda result: dict(zip(names, [result] if isinstance(result, torch.Tensor) else tree_leaves(result))),
        pure=_is_pure(exported),
        module=module,
        analyze=lambda: read.of_exported(exported, [name if name in served else "" for name in names]),
        ranges=lambda: ranges.of_exported(exported),
    )


def _load_archive(path: str) -> Any:
    """Load an archive. Raises LoadError with reasons that PyTorch only logs, such as an operator that it lacks."""
    log = _LogCollector()
    logger = logging.getLogger("torch.export")
    logger.addHandler(log)
    try:
        return torch.export.load(path)
    except Exception as error:
        text = "\n".join([*log.lines, str(error)])
        missing = _UNKNOWN_OPERATOR.search(text)
        if missing:
            raise LoadError(
                "this exported program needs the operator %s, which is not part of PyTorch" % missing[1]
            ) from error
        other = _OTHER_OUTPUT.search(text)
        if other:
            raise LoadError(
                "an output of this exported program is a constant %s, which PyTorch saves but cannot load: return "
                "tensors and numbers only" % {"string": "text"}.get(other[1], other[1])
            ) from error
        if _PICKLE.search(text):
            raise LoadError(
                "this exported program contains pickled Python objects, which are code: export the model again"
            ) from error
        if _OTHER_SCHEMA.search(text):
            raise LoadError(
                "this exported program was saved by a PyTorch that is too old or too new for PyTorch %s: export the "
                "model again" % torch.__version__.split("+")[0]
            ) from error
        raise
    finally:
        logger.removeHandler(log)


class _LogCollector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: List[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter().format(record))  # includes the text of the exception


def _inputs(exported: Any, values: Dict[str, Any]) -> Tuple[Tuple[TensorSpec, ...], List[Any]]:
    """Return the inputs, and the flat arguments with a placeholder for each of them."""
    specs, leaves = [], []  # type: Tuple[List[TensorSpec], List[Any]]
    for item in exported.graph_signature.input_specs:
        if item.kind != InputKind.USER_INPUT:
            continue
        if isinstance(item.arg, ConstantArgument):
            leaves.append(item.arg.value)
        elif isinstance(item.arg, SymIntArgument):
            specs.append(TensorSpec(item.arg.name, "INT64", ()))
            leaves.append(_PLACEHOLDER)
        else:
            datatype, shape = _describe(values.get(item.arg.name))
            if not datatype:
                raise LoadError("input '%s' cannot be served: %s" % (item.arg.name, shape))
            specs.append(TensorSpec(item.arg.name, datatype, shape))
            leaves.append(_PLACEHOLDER)
    return tuple(specs), leaves


def _outputs(
    exported: Any, values: Dict[str, Any], names: Sequence[str]
) -> Tuple[Tuple[TensorSpec, ...], Dict[str, str]]:
    """Return the outputs, and the reasons why others cannot be served."""
    specs, refused = [], {}
    items = [item for item in exported.graph_signature.output_specs if item.kind == OutputKind.USER_OUTPUT]
    for name, item in zip(names, items):
        if isinstance(item.arg, SymIntArgument):
            specs.append(TensorSpec(name, "INT64", ()))
            continue
        if isinstance(item.arg, ConstantArgument):
            datatype, shape = _CONSTANTS.get(type(item.arg.value), ""), ()  # type: Tuple[str, Any]
            shape = shape if datatype else "it is %s" % item.arg.value
        else:
            tensor = isinstance(item.arg, TensorArgument)
            datatype, shape = _describe(values.get(item.arg.name) if tensor else None)
        if datatype:
            specs.append(TensorSpec(name, datatype, shape))
        else:
            refused[name] = shape
    return tuple(specs), refused


def _describe(value: Any) -> Tuple[str, Any]:
    """Return datatype and shape of a traced value, or "" and the reason why it cannot be served."""
    if not isinstance(value, torch.Tensor):
        return "", "it is not a tensor"
    problem = datatype_problem(value.dtype)
    if problem:
        return "", problem
    datatype = datatype_of_tensors(value.dtype)
    return datatype, tuple(size if isinstance(size, int) else -1 for size in value.shape)


def _is_pure(exported: Any) -> bool:
    """Return whether no operator writes in place. False if that is uncertain, as for a graph inside an operator."""
    signature = exported.graph_signature
    if signature.buffers_to_mutate or signature.user_inputs_to_mutate:
        return False
    targets = [node.target for node in exported.graph.nodes if node.op == "call_function"]
    schemas = [getattr(target, "_schema", None) for target in targets if not isinstance(target, BuiltinFunctionType)]
    return all(schema is not None and not schema.is_mutable for schema in schemas)
