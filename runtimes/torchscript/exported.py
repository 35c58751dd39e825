"""Exported programs (torch.export.save): names, shapes and datatypes are all in the artifact.

A dimension is -1 where the export made it dynamic. Bounds that the export put on such a dimension
are checked by the program itself. Outputs of a dict are named by its keys; the names that the
graph gives them are internal.
"""

import logging
import re
import zipfile
from types import BuiltinFunctionType
from typing import Any, Dict, List, Sequence, Tuple

import torch
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, SymIntArgument, TensorArgument
from torch.utils._pytree import TreeSpec, tree_unflatten

from runtimes.checks import declared_inputs, declared_outputs
from runtimes.contract import LoadError, LoadOptions, Signature, TensorSpec, datatype_of, unnamed_outputs

from .analysis import ranges, read
from .program import Program, datatype_problem, sentence

_UNKNOWN_OPERATOR = re.compile(r"failed to resolve (?:torch\.ops\.)?([\w.:]+)")
_OTHER_SCHEMA = re.compile(r"Serialized version .* does not match our current schema version", re.DOTALL)
_GIVEN = object()  # stands where a value of the request goes


def load(options: LoadOptions) -> Program:
    _check_form(options.artifact)
    try:
        exported = _loaded(options.artifact)
        if options.device != "cpu":
            from torch.export.passes import move_to_device_pass

            exported = move_to_device_pass(exported, options.device)
        module = exported.module()
    except LoadError:
        raise
    except Exception as error:
        raise LoadError("PyTorch cannot load this exported program: %s" % sentence(error)) from error
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    inputs, leaves = _inputs(exported, values)
    names, places, single = _output_names(exported.call_spec.out_spec)
    outputs, refused = _outputs(exported, values, names, places, single)
    if not outputs:
        raise LoadError("none of the model's outputs can be served: %s" % "; ".join(refused.values()))
    in_spec = exported.call_spec.in_spec
    served = {spec.name for spec in outputs}
    by_place = [names[place] if place in single and names[place] in served else "" for place in places]

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
        analyse=lambda: read.of_exported(exported, by_place),
        ranges=lambda: ranges.of_exported(exported),
    )


def _check_form(path: str) -> None:
    """Raises LoadError for an archive with compiled code in the place of a program."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any("/aotinductor/" in name for name in names) and not any("/models/" in name for name in names):
        raise LoadError(
            "this is an AOTInductor package, compiled code for one kind of machine; served are exported programs: save "
            "the model with torch.export.save"
        )


def _loaded(path: str) -> Any:
    """Raises LoadError with what PyTorch has in its log alone: the operator that it lacks, say."""
    said = _Said()
    logger = logging.getLogger("torch.export")
    logger.addHandler(said)
    try:
        return torch.export.load(path)
    except Exception as error:
        text = "\n".join([*said.lines, str(error)])
        lacking = _UNKNOWN_OPERATOR.search(text)
        if lacking:
            raise LoadError(
                "this exported program needs the operator %s, which PyTorch alone does not have" % lacking[1]
            ) from error
        if _OTHER_SCHEMA.search(text):
            raise LoadError(
                "this exported program was saved by a PyTorch that is too old or too new for PyTorch %s: export the "
                "model again" % torch.__version__.split("+")[0]
            ) from error
        raise
    finally:
        logger.removeHandler(said)


class _Said(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: List[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter().format(record))  # with its exception's text


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
    exported: Any, values: Dict[str, Any], names: Sequence[str], places: Sequence[int], single: Sequence[int]
) -> Tuple[Tuple[TensorSpec, ...], Dict[str, str]]:
    """places, single: as `_output_names` gives them."""
    specs, refused = [], {}
    items = [item for item in exported.graph_signature.output_specs if item.kind == OutputKind.USER_OUTPUT]
    for place, name in enumerate(names):
        parts = [item for item, where in zip(items, places) if where == place]
        if place not in single:
            refused[name] = "it holds several values; nested outputs cannot be served"
            continue
        if isinstance(parts[0].arg, SymIntArgument):
            specs.append(TensorSpec(name, "INT64", ()))
            continue
        tensor = isinstance(parts[0].arg, TensorArgument)
        datatype, shape = _describe(values.get(parts[0].arg.name) if tensor else None)
        if datatype:
            specs.append(TensorSpec(name, datatype, shape))
        else:
            refused[name] = shape
    return tuple(specs), refused


def _describe(value: Any) -> Tuple[str, Any]:
    """Datatype and shape of a traced value; or "" and why it has none."""
    if not isinstance(value, torch.Tensor):
        return "", "it is not a tensor"
    problem = datatype_problem(value.dtype)
    if problem:
        return "", problem
    datatype = datatype_of(torch.empty(0, dtype=value.dtype).numpy().dtype)
    return datatype, tuple(size if isinstance(size, int) else -1 for size in value.shape)


def _output_names(spec: TreeSpec) -> Tuple[List[str], List[int], List[int]]:
    """Names; for each of the program's own outputs, the place of the name that it belongs to; and the places of names
    that stand for one value."""
    # A NamedTuple cannot be here: torch.export.save refuses it.
    if spec.is_leaf():
        return unnamed_outputs(1), [0], [0]
    children = spec.children()
    places = [place for place, child in enumerate(children) for _ in range(child.num_leaves)]
    single = [place for place, child in enumerate(children) if child.is_leaf()]
    names = [str(key) for key in spec.context] if issubclass(spec.type, dict) else unnamed_outputs(len(children))
    return names, places, single


def _is_pure(exported: Any) -> bool:
    """Whether no operation writes in place. When in doubt (a graph inside an operator): no."""
    signature = exported.graph_signature
    if signature.buffers_to_mutate or signature.user_inputs_to_mutate:
        return False
    targets = [node.target for node in exported.graph.nodes if node.op == "call_function"]
    schemas = [getattr(target, "_schema", None) for target in targets if not isinstance(target, BuiltinFunctionType)]
    return all(schema is not None and not schema.is_mutable for schema in schemas)
