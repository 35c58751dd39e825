"""Names of results that may be nested: (out, (h, c)) is OUTPUT__0, OUTPUT__1_0 and OUTPUT__1_1.

The keys of dicts and the fields of NamedTuples are names themselves, also inside of others: {"state": (h, c)} is
state_0 and state_1. A list of numbers or texts is one tensor of rank 1.
"""

import re
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch.utils._pytree import TreeSpec

from runtimes.contract import LoadError, TensorSpec, Unsupported, unnamed_outputs

SCALARS = {"IntType": "INT64", "FloatType": "FP64", "NumberType": "FP64", "BoolType": "BOOL", "StringType": "BYTES"}
# INPUT__1, and OUTPUT__1_0 for a part of it: what comes before the part, the position, the part.
_PLACED = re.compile(r"(.*__([0-9]{1,9}))((?:_[0-9A-Za-z]\w*)?)", re.DOTALL)
_MAX_POSITION = 1024


def placed(name: str) -> Optional[Tuple[str, int, str]]:
    """Return the stem, position and part of a name that contains a position, as Triton's do; None for another name."""
    match = _PLACED.fullmatch(name)
    return (match[1], int(match[2]), match[3]) if match else None


def by_position(declared: Sequence[TensorSpec]) -> Dict[int, TensorSpec]:
    """Return the declared tensors by their position among the arguments, or among the returned values."""
    found = [placed(spec.name) for spec in declared]
    positions = [each[1] for each in found if each is not None and not each[2]]
    if len(set(positions)) < len(declared):
        return dict(enumerate(declared))
    check_positions(declared)
    return dict(zip(positions, declared))


def check_positions(declared: Sequence[TensorSpec]) -> None:
    """Raises LoadError."""
    for spec in declared:
        found = placed(spec.name)
        if found is not None and found[1] >= _MAX_POSITION:
            raise LoadError("the number in '%s' is larger than any position that is supported" % spec.name)


class ResultNames:
    """Names the values that a model returns by what model.toml declares.

    Declared names with positions stand for the values at these positions, other declared names for the values in order.
    Neither is used if the model returns a dict or a NamedTuple.
    """

    def __init__(self, declared: Sequence[TensorSpec] = ()) -> None:
        self._stems: Dict[int, str] = {}
        self._in_order: List[str] = []
        parts = [placed(spec.name) for spec in declared]
        if all(each is not None for each in parts):
            check_positions(declared)
            for stem, position, _ in filter(None, parts):
                self._stems.setdefault(position, stem)
        else:
            self._in_order = [spec.name for spec in declared]
        self._single = self._top(0) if not self._in_order else self._in_order[0]

    def of(self, result: Any, kind: Any = None) -> Dict[str, Any]:
        """Return a result's values by name. kind: its type in TorchScript, which tells what empty lists would hold.

        Raises Unsupported if declared names could be those of other values in another answer.
        """
        if isinstance(result, torch.Tensor):
            return {self._single: result}
        own = is_record(result)
        found = list(_parts("", result, kind, self._top))
        if self._in_order and not own:
            if len(found) != len(self._in_order) and _moves_values(result):
                raise Unsupported(
                    "the result has %d values and %d outputs are declared, but a list in the result moves the values "
                    "after it: declare outputs with their positions in model.toml, such as NAME__0_0 and NAME__1"
                    % (len(found), len(self._in_order))
                )
            found = [
                (self._in_order[index] if index < len(self._in_order) else name, value)
                for index, (name, value) in enumerate(found)
            ]
        names = unique([name for name, _ in found])
        return dict(zip(names, (value for _, value in found)))

    def _top(self, position: int) -> str:
        return self._stems.get(position) or unnamed_outputs(position + 1)[position]


def _moves_values(value: Any) -> bool:
    """Return whether there are values after a list of tensors, whose length may change."""
    if is_record(value) or not isinstance(value, (tuple, list)) or not value:
        return False
    return any(map(_has_list, value[:-1])) or _moves_values(value[-1])


def _has_list(value: Any) -> bool:
    if isinstance(value, list):
        return _scalars(value, None) is None
    return isinstance(value, tuple) and any(map(_has_list, value))


def is_record(value: Any) -> bool:
    """Return whether a value names its parts."""
    return isinstance(value, dict) or hasattr(value, "_asdict")


def _parts(prefix: str, value: Any, kind: Any, top: Any) -> Iterator[Tuple[str, Any]]:
    """Yield the values inside of a value with their names."""
    if kind is not None and kind.kind() == "OptionalType":
        kind = kind.getElementType()
    contained = _contained(kind)
    if isinstance(value, list):
        scalars = _scalars(value, contained[0] if len(contained) == 1 else None)
        if scalars is not None:
            yield prefix or top(0), scalars
            return
    if is_record(value):
        items = value if isinstance(value, dict) else value._asdict()
        inner = contained[-1] if isinstance(value, dict) and contained else None
        for key, each in items.items():
            yield from _parts("%s_%s" % (prefix, key) if prefix else str(key), each, inner, top)
    elif isinstance(value, (tuple, list)):
        for index, each in enumerate(value):
            inner = contained[0 if isinstance(value, list) else index] if contained else None
            yield from _parts("%s_%d" % (prefix, index) if prefix else top(index), each, inner, top)
    else:
        yield prefix or top(0), value


def known_outputs(kind: Any) -> Tuple[TensorSpec, ...]:
    """Return the outputs that a type in TorchScript shows; none if a result shows more of them.

    The length of a list, the keys of a dict, and the names of a NamedTuple's fields are not in the type.
    """
    if kind is None:
        return ()
    specs: List[TensorSpec] = []
    if not _add_known("", kind, specs):
        return ()
    return tuple(specs)


def _add_known(prefix: str, kind: Any, specs: List[TensorSpec]) -> bool:
    name = prefix or unnamed_outputs(1)[0]
    if kind.kind() == "TensorType":
        specs.append(TensorSpec(name))
    elif kind.kind() in SCALARS and kind.kind() != "NumberType":
        specs.append(TensorSpec(name, SCALARS[kind.kind()], ()))
    elif kind.kind() == "ListType" and kind.getElementType().kind() in SCALARS:
        specs.append(TensorSpec(name, SCALARS[kind.getElementType().kind()], (-1,)))
    elif kind.kind() == "TupleType" and str(kind).startswith("Tuple["):  # otherwise it is a NamedTuple
        parts = kind.elements()
        names = ["%s_%d" % (prefix, index) for index in range(len(parts))] if prefix else unnamed_outputs(len(parts))
        return all(_add_known(name, part, specs) for name, part in zip(names, parts))
    else:
        return False
    return True


def _contained(kind: Any) -> List[Any]:
    if kind is None or kind.kind() not in ("ListType", "TupleType", "DictType"):
        return []
    return list(kind.containedTypes())


def _scalars(values: List[Any], kind: Any) -> Optional[np.ndarray]:
    """Return a list of numbers or texts as an array; None if it holds anything else, or may."""
    if kind is not None and kind.kind() in SCALARS:
        datatype = SCALARS[kind.kind()]
    elif values and all(type(each) is type(values[0]) for each in values):
        datatype = {bool: "BOOL", int: "INT64", float: "FP64", str: "BYTES"}.get(type(values[0]), "")
    else:
        datatype = ""
    if not datatype:
        return None
    if datatype == "BYTES":
        array = np.empty(len(values), object)
        array[:] = [each.encode() for each in values]
        return array
    return np.array(values, {"BOOL": np.bool_, "INT64": np.int64, "FP64": np.float64}[datatype])


def names_of(spec: TreeSpec) -> List[str]:
    """Return the names of an exported program's flat results."""
    return unique(list(_leaves("", spec)))


def _leaves(prefix: str, spec: TreeSpec) -> Iterator[str]:
    if spec.is_leaf():
        yield prefix or unnamed_outputs(1)[0]
        return
    children = spec.children()
    keys: Sequence[Any] = range(len(children))
    if issubclass(spec.type, dict) and isinstance(spec.context, list):
        keys = spec.context
    elif hasattr(spec.context, "_fields"):
        keys = spec.context._fields
    for key, child in zip(keys, children):
        named = str(key) if isinstance(key, str) or issubclass(spec.type, dict) else ""
        name = named or unnamed_outputs(key + 1)[key]
        yield from _leaves("%s_%s" % (prefix, key) if prefix else name, child)


def positions_of(wanted: Sequence[TensorSpec], spec: TreeSpec) -> List[int]:
    """Return the positions of outputs, which are named as for `declared_names`, among a program's flat results."""
    names, outputs = declared_names(wanted, names_of(spec))
    return [names.index(output.name) for output in outputs]


def declared_names(declared: Sequence[TensorSpec], names: List[str]) -> Tuple[List[str], Tuple[TensorSpec, ...]]:
    """Return the names of flat results as they are declared, and the outputs. Raises LoadError.

    The declared names are either among `names`, or stand for them in order.
    """
    if not declared or all(spec.name in names for spec in declared):
        return names, tuple(declared) or tuple(map(TensorSpec, names))
    positions = by_position(declared)
    if max(positions) >= len(names):
        raise LoadError("%d outputs are declared, but the model has %d" % (max(positions) + 1, len(names)))
    renamed = [positions[index].name if index in positions else name for index, name in enumerate(names)]
    return unique(renamed), tuple(declared)


def unique(names: List[str]) -> List[str]:
    """Return the names with an underscore added where the parts of one value are called as another value."""
    taken = set(names)
    if len(taken) == len(names):
        return names
    seen, made = set(), []  # type: Any, List[str]
    for name in names:
        while name in seen or (name not in taken and name in made):
            name += "_"
        seen.add(name)
        made.append(name)
    return made
