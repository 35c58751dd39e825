"""Loads TorchScript archives.

An archive contains the names and types of the arguments of `forward`, but no shapes, datatypes or names of outputs.
These can be in a file `signature.json` inside the archive (`_extra_files` of torch.jit.save):

    {"inputs":  [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}],
     "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}]}

Declarations in model.toml take precedence. Declared inputs are matched to the arguments of `forward` by name if all
names are those of arguments, otherwise by position. If all declared names end in two underscores and a number, as
Triton requires (INPUT__0, OUTPUT__1), the number is the position, whatever the order. An argument with a default value
is an input only if it is declared by name; otherwise it keeps its default.
"""

import json
import re
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch

from runtimes.checks import declared_inputs, declared_outputs, quoted
from runtimes.contract import DATATYPES, LoadError, LoadOptions, Signature, TensorSpec, unnamed_outputs

from .analysis import ranges, read
from .program import Program, client_message

_SCALARS = {"IntType": "INT64", "FloatType": "FP64", "NumberType": "FP64", "BoolType": "BOOL", "StringType": "BYTES"}
_EXTRA = "signature.json"
_NUMBERED = re.compile(r"__([0-9]{1,9})$")
_MAX_POSITION = 1024


def load(options: LoadOptions) -> Program:
    extra = {_EXTRA: ""}  # type: Dict[str, Any]
    try:
        module = torch.jit.load(options.artifact, map_location=options.device, _extra_files=extra).eval()
        if not hasattr(module, "forward"):
            raise LoadError(
                "this TorchScript archive has no forward, so it cannot be called: script a module whose forward calls "
                "this one"
            )
        schema = module.forward.schema
    except LoadError:
        raise
    except Exception as error:
        raise LoadError("PyTorch cannot load this TorchScript archive: %s" % client_message(error)) from error
    inputs, outputs = _embedded(extra[_EXTRA])
    _check_agreement(declared_inputs, options.inputs, inputs)
    _check_agreement(declared_outputs, options.outputs, outputs)
    arguments, specs = _match(schema.arguments[1:], options.inputs or inputs)
    names = [argument.name for argument in arguments]
    found, refused = _outputs(schema.returns)
    signature = Signature(specs, options.outputs or outputs or found, {} if options.outputs or outputs else refused)
    by_position = _by_position(signature.outputs)
    default_names = unnamed_outputs(max(by_position, default=-1) + 1)
    output_names = [
        by_position[position].name if position in by_position else name for position, name in enumerate(default_names)
    ]
    return Program(
        call=lambda values: module(**dict(zip(names, values))),
        scalars=[_kind(argument) in _SCALARS for argument in arguments],
        signature=signature,
        names=output_names,
        pure=_is_pure(module.inlined_graph),
        module=module,
        analyze=lambda: read.of_scripted(module, list(zip(names, specs)), output_names),
        ranges=lambda: ranges.of_scripted(module, list(zip(names, specs))),
    )


def _embedded(raw: Any) -> Tuple[Tuple[TensorSpec, ...], Tuple[TensorSpec, ...]]:
    if not raw:
        return (), ()
    try:
        described = json.loads(raw)
        return _specs(described.get("inputs", [])), _specs(described.get("outputs", []))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError("the archive's signature.json cannot be read: %s" % error) from error


def _specs(raw: Sequence[Dict[str, Any]]) -> Tuple[TensorSpec, ...]:
    specs = []
    for item in raw:
        datatype, shape = item.get("datatype", ""), item.get("shape")
        if datatype and datatype not in DATATYPES:
            raise ValueError("there is no datatype %r" % datatype)
        specs.append(TensorSpec(item["name"], datatype, None if shape is None else tuple(int(size) for size in shape)))
    return tuple(specs)


def _check_agreement(check: Any, declared: Sequence[TensorSpec], embedded: Sequence[TensorSpec]) -> None:
    """Raise LoadError if two declarations of the model contradict each other. They may use different names."""
    by_name = {spec.name: spec for spec in embedded}
    for spec in declared:
        if spec.name in by_name:
            check((spec,), (by_name[spec.name],))


def _match(arguments: Sequence[Any], declared: Sequence[TensorSpec]) -> Tuple[List[Any], Tuple[TensorSpec, ...]]:
    """Return the arguments that get a value, and for each the input that it comes from."""
    required = [argument for argument in arguments if not argument.has_default_value()]
    by_name = {argument.name: argument for argument in arguments}
    if not declared:
        chosen, specs = required, [TensorSpec(argument.name) for argument in required]
    elif all(spec.name in by_name for spec in declared):
        chosen, specs = [by_name[spec.name] for spec in declared], list(declared)
    else:
        by_position = _by_position(declared)
        chosen = [argument for position, argument in enumerate(arguments) if position in by_position]
        specs = [by_position[position] for position in sorted(by_position)]
    missing = [argument.name for argument in required if argument not in chosen]
    if missing or len(chosen) != len(specs):
        raise LoadError(
            "%d inputs are declared, but the model has %s"
            % (len(specs), quoted(argument.name for argument in arguments))
        )
    return chosen, tuple(_typed(argument, spec) for argument, spec in zip(chosen, specs))


def _by_position(declared: Sequence[TensorSpec]) -> Dict[int, TensorSpec]:
    """Return the declared tensors by their position among the arguments, or among the returned values."""
    numbers = [_NUMBERED.search(spec.name) for spec in declared]
    if None in numbers or len({int(number[1]) for number in numbers}) < len(declared):
        return dict(enumerate(declared))
    by_position = {int(number[1]): spec for number, spec in zip(numbers, declared)}
    if max(by_position, default=0) >= _MAX_POSITION:
        raise LoadError(
            "the number in '%s' is larger than any position that is supported" % by_position[max(by_position)].name
        )
    return by_position


def _typed(argument: Any, spec: TensorSpec) -> TensorSpec:
    kind = _kind(argument)
    if kind in _SCALARS:
        return TensorSpec(spec.name, _SCALARS[kind], () if spec.shape is None else spec.shape)
    if kind != "TensorType":
        raise LoadError(
            "input '%s' is %s; only tensors, numbers and strings can be served" % (spec.name, argument.type)
        )
    return spec


def _kind(argument: Any) -> str:
    kind = argument.type
    return kind.getElementType().kind() if kind.kind() == "OptionalType" else kind.kind()


def _outputs(returns: Sequence[Any]) -> Tuple[Tuple[TensorSpec, ...], Dict[str, str]]:
    """Return the outputs as far as the return type shows them, and the reasons why others cannot be served.

    There are none if the names or the number of outputs are known only from a result. Raises LoadError if no output
    can be served.
    """
    kind = returns[0].type if len(returns) == 1 else None
    if kind is None:
        return (), {}
    parts = kind.elements() if kind.kind() == "TupleType" else [kind]
    nested = [_is_nested(part, part is not kind) for part in parts]
    if all(nested):
        raise LoadError("the model returns %s; nested outputs cannot be served" % kind)
    if kind.kind() == "TupleType" and not str(kind).startswith("Tuple["):  # a NamedTuple, whose field names are unknown
        return (), {}
    datatypes = [_datatype(part) for part in parts]
    names = unnamed_outputs(len(parts))
    refused = {
        name: "it is %s; nested outputs cannot be served" % part
        for name, part, is_nested in zip(names, parts, nested)
        if is_nested
    }
    served = [(name, datatype) for name, datatype in zip(names, datatypes) if name not in refused]
    if any(datatype is None for _, datatype in served):
        return (), refused
    return tuple(TensorSpec(name, datatype or "", () if datatype else None) for name, datatype in served), refused


def _is_nested(part: Any, inside: bool) -> bool:
    """Return whether an output of this type contains several values. inside: whether it is one of several outputs."""
    if inside and part.kind() in ("ListType", "DictType", "TupleType"):
        return True
    inner = part.containedTypes() if part.kind() in ("ListType", "DictType") else []
    return any(item.kind() not in ("TensorType", "StringType") and item.containedTypes() for item in inner)


def _datatype(part: Any) -> Optional[str]:
    """Return "" for a tensor, the datatype of a scalar, or None if the type may be anything."""
    return "" if part.kind() == "TensorType" else {**_SCALARS, "NumberType": None}.get(part.kind())


def _is_pure(graph: Any) -> bool:
    """Return whether no operator writes in place or to an attribute. False if that is uncertain."""
    return not any(
        "!" in node.schema() or node.kind() in ("prim::SetAttr", "prim::CallMethod", "prim::CallFunction")
        for node in _nodes(graph)
    )


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)
