"""TorchScript archives.

An archive names the arguments of `forward` and their types; it tells no shapes, datatypes or
output names. A file `signature.json` inside the archive may (torch.jit.save's `_extra_files`):

    {"inputs":  [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}],
     "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}]}

What model.toml declares goes before it. Declared inputs are matched with `forward`'s arguments by
name if all names are argument names, else by position. Arguments with a default become inputs
only where they are declared by name; undeclared, they keep their default. Where all declared names
end in a number behind two underscores (INPUT__0, OUTPUT__1), as Triton wants them, that number is
the position, whatever the order.
"""

import json
import re
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch

from runtimes.checks import declared_inputs, declared_outputs, quoted
from runtimes.contract import DATATYPES, LoadError, LoadOptions, Signature, TensorSpec, unnamed_outputs

from .analysis import ranges, read
from .program import Program, sentence

_SCALARS = {"IntType": "INT64", "FloatType": "FP64", "NumberType": "FP64", "BoolType": "BOOL", "StringType": "BYTES"}
_EXTRA = "signature.json"
_NUMBERED = re.compile(r"__([0-9]{1,9})$")
_MAX_PLACES = 1024


def load(options: LoadOptions) -> Program:
    extra = {_EXTRA: ""}  # type: Dict[str, Any]
    try:
        module = torch.jit.load(options.artifact, map_location=options.device, _extra_files=extra).eval()
        if not hasattr(module, "forward"):
            raise LoadError(
                "this TorchScript archive has no forward, so it cannot be called: script a module of your own that "
                "calls the layer in its forward"
            )
        schema = module.forward.schema
    except LoadError:
        raise
    except Exception as error:
        raise LoadError("PyTorch cannot load this TorchScript archive: %s" % sentence(error)) from error
    inputs, outputs = _embedded(extra[_EXTRA])
    _check_agree(declared_inputs, options.inputs, inputs)
    _check_agree(declared_outputs, options.outputs, outputs)
    arguments, specs = _match(schema.arguments[1:], options.inputs or inputs)
    names = [argument.name for argument in arguments]
    found, refused = _outputs(schema.returns)
    signature = Signature(specs, options.outputs or outputs or found, {} if options.outputs or outputs else refused)
    told = _by_position(signature.outputs)
    listed = unnamed_outputs(max(told, default=-1) + 1)
    outputs_by_place = [told[place].name if place in told else name for place, name in enumerate(listed)]
    return Program(
        call=lambda values: module(**dict(zip(names, values))),
        scalars=[_kind(argument) in _SCALARS for argument in arguments],
        signature=signature,
        names=outputs_by_place,
        pure=_is_pure(module.inlined_graph),
        module=module,
        analyse=lambda: read.of_scripted(module, list(zip(names, specs)), outputs_by_place),
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


def _check_agree(check: Any, declared: Sequence[TensorSpec], embedded: Sequence[TensorSpec]) -> None:
    """Two declarations of one model may use different names; what they both name must agree. Raises LoadError."""
    by_name = {spec.name: spec for spec in embedded}
    for spec in declared:
        if spec.name in by_name:
            check((spec,), (by_name[spec.name],))


def _match(arguments: Sequence[Any], declared: Sequence[TensorSpec]) -> Tuple[List[Any], Tuple[TensorSpec, ...]]:
    """The arguments that get a value, and the input that each gets it from."""
    required = [argument for argument in arguments if not argument.has_default_value()]
    by_name = {argument.name: argument for argument in arguments}
    if not declared:
        chosen, specs = required, [TensorSpec(argument.name) for argument in required]
    elif all(spec.name in by_name for spec in declared):
        chosen, specs = [by_name[spec.name] for spec in declared], list(declared)
    else:
        placed = _by_position(declared)
        chosen = [argument for place, argument in enumerate(arguments) if place in placed]
        specs = [placed[place] for place in sorted(placed)]
    missing = [argument.name for argument in required if argument not in chosen]
    if missing or len(chosen) != len(specs):
        raise LoadError(
            "%d inputs are declared, but the model takes %s"
            % (len(specs), quoted(argument.name for argument in arguments))
        )
    return chosen, tuple(_typed(argument, spec) for argument, spec in zip(chosen, specs))


def _by_position(declared: Sequence[TensorSpec]) -> Dict[int, TensorSpec]:
    """Each by its place among the arguments, or among what is returned."""
    numbers = [_NUMBERED.search(spec.name) for spec in declared]
    if None in numbers or len({int(number[1]) for number in numbers}) < len(declared):
        return dict(enumerate(declared))
    placed = {int(number[1]): spec for number, spec in zip(numbers, declared)}
    if max(placed, default=0) >= _MAX_PLACES:
        raise LoadError("'%s' stands for a place that no model has" % placed[max(placed)].name)
    return placed


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
    """What the return type tells: nothing where names or their number show only in a result; and what is refused.

    Raises LoadError where nothing of it could ever be served.
    """
    kind = returns[0].type if len(returns) == 1 else None
    if kind is None:
        return (), {}
    parts = kind.elements() if kind.kind() == "TupleType" else [kind]
    nested = [_is_nested(part, part is not kind) for part in parts]
    if all(nested):
        raise LoadError("the model returns %s; nested outputs cannot be served" % kind)
    if kind.kind() == "TupleType" and not str(kind).startswith("Tuple["):  # a NamedTuple: its fields are not told
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
    """Whether an output of this type holds several values. inside: it is one of several outputs itself."""
    if inside and part.kind() in ("ListType", "DictType", "TupleType"):
        return True
    inner = part.containedTypes() if part.kind() in ("ListType", "DictType") else []
    return any(item.kind() not in ("TensorType", "StringType") and item.containedTypes() for item in inner)


def _datatype(part: Any) -> Optional[str]:
    """An empty string for a tensor, the scalar's datatype, or None for what can be anything."""
    return "" if part.kind() == "TensorType" else {**_SCALARS, "NumberType": None}.get(part.kind())


def _is_pure(graph: Any) -> bool:
    """Whether no operation writes in place and nothing is kept in an attribute. When in doubt: no."""
    return not any(
        "!" in node.schema() or node.kind() in ("prim::SetAttr", "prim::CallMethod", "prim::CallFunction")
        for node in _nodes(graph)
    )


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)
