"""Loads TorchScript archives.

An archive contains the names and types of the arguments of `forward`, but no shapes, datatypes or names of outputs.
These can be in a file `signature.json` inside the archive (`_extra_files` of torch.jit.save):

    {"inputs":  [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}],
     "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}]}

Declarations in model.toml take precedence. Declared inputs are matched to the arguments of `forward` by name if all
names are those of arguments, otherwise by position. If all declared names end in two underscores and a number, as
Triton requires (INPUT__0, OUTPUT__1), the number is the position, whatever the order. An argument with a default value
is an optional input. `arguments.py` describes arguments that contain several tensors, and `names.py` such results.
"""

import json
import re
from typing import Any, Dict, Iterator, Sequence, Tuple

import torch

from runtimes.checks import declared_inputs, declared_outputs
from runtimes.contract import DATATYPES, LoadError, LoadOptions, Signature, TensorSpec

from .analysis import ranges, read
from .arguments import match
from .names import ResultNames, known_outputs
from .program import LIST, Program, client_message

_EXTRA = "signature.json"
_UNKNOWN_OPERATOR = re.compile(r"Unknown (?:builtin op|custom class[^:]*): ([\w:.]+?)\.?$", re.MULTILINE)


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
        raise _load_error(error) from error
    inputs, outputs = _embedded(extra[_EXTRA])
    _check_agreement(declared_inputs, options.inputs, inputs)
    _check_agreement(declared_outputs, options.outputs, outputs)
    batches = bool(options.max_rows and options.batches)
    arguments = match(schema.arguments[1:], options.inputs or inputs, options.optional, batches)
    specs = tuple(slot.spec for slot in arguments.slots)
    kind = schema.returns[0].type if len(schema.returns) == 1 else None
    names = ResultNames(options.outputs or outputs)
    direct = [(slot.argument.name, slot.spec) for slot in arguments.slots if slot.key is None and slot.kind != LIST]
    return Program(
        call=lambda values: module(**arguments.keywords(values)),
        kinds=[slot.kind for slot in arguments.slots],
        signature=Signature(
            specs,
            options.outputs or outputs or known_outputs(kind),
            optional=tuple(slot.spec.name for slot in arguments.slots if slot.optional),
        ),
        name=lambda result: names.of(result, kind),
        pure=_is_pure(module.inlined_graph),
        module=module,
        analyze=lambda: read.of_optional(module, arguments.slots),
        ranges=lambda: ranges.of_scripted(module, direct),
    )


def _load_error(error: Exception) -> LoadError:
    missing = _UNKNOWN_OPERATOR.search(str(error))
    if missing is None:
        return LoadError("PyTorch cannot load this TorchScript archive: %s" % client_message(error))
    return LoadError("this TorchScript archive needs the operator %s, which PyTorch lacks" % missing[1])


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
