"""A CNTK model as a flat network: primitive functions between variables, blocks taken apart.

In the file all functions lie side by side, also those inside of blocks: a block binds the placeholders
that its functions read to variables outside. Following these bindings is all that taking it apart needs.
"""

import math
from collections import Counter
from typing import Any, Dict, List, NamedTuple, NoReturn, Optional, Sequence, Tuple

import numpy as np

from runtimes.contract import LoadError

from .dictionary import Axis, Shape
from .opcodes import NAMES
from .protobuf import MAX_MESSAGE_LENGTH, broken, short

BATCH = "defaultBatchAxis"
INPUT, OUTPUT, PARAMETER, CONSTANT, PLACEHOLDER = range(5)
_READABLE = (INPUT, PARAMETER, CONSTANT)
DTYPES = {1: np.dtype(np.float32), 2: np.dtype(np.float64), 4: np.dtype(np.float16)}
# Versions of the root's dictionary that CNTK 2.7 reads; 1 is of CNTK 2.0.
_ROOT_VERSIONS = (1, 2, 3)
# Of one row of an input, or of a parameter.
_MAX_ELEMENTS = 1 << 40


class Variable(NamedTuple):
    """What a model reads.

    shape  without dynamic axes, row-major as Python's side of CNTK shows it; -1 for a free dimension
    axes   dynamic ones, the batch first
    value  of a parameter or constant
    """

    uid: str
    name: str
    kind: int
    dtype: Optional[np.dtype]
    shape: Tuple[int, ...]
    axes: Tuple[Axis, ...]
    sparse: bool
    value: Optional[np.ndarray]


class Function(NamedTuple):
    """op: what CNTK calls it; inputs: uids of variables, CNTK's order; block: what it is part of ("LSTM"), or ""."""

    uid: str
    op: str
    name: str
    inputs: Tuple[str, ...]
    attributes: Dict[str, Any]
    block: str = ""

    @property
    def where(self) -> str:
        told = "'%s'" % short(self.name) if self.name else "without a name"
        inside = " in a block %s" % short(self.block) if self.block else ""
        return "%s, %s (uid %s)%s" % (self.op, told, short(self.uid), inside)

    def refuse(self, why: str) -> NoReturn:
        told = "%s: %s; serve the model by CNTK itself (the runtime cntk)"
        raise LoadError(told % (self.where, short(why, MAX_MESSAGE_LENGTH)))


class Result(NamedTuple):
    """One of the model's outputs: its name, and the variable that it is."""

    name: str
    uid: str


class Network(NamedTuple):
    """functions and variables by uid; arguments in CNTK's order.

    shapes  of outputs that placeholders stood for, by uid: the file tells them of no others
    """

    functions: Dict[str, Function]
    variables: Dict[str, Variable]
    arguments: Tuple[Variable, ...]
    results: Tuple[Result, ...]
    shapes: Dict[str, Tuple[int, ...]]


def network(root: Dict[str, Any]) -> Network:
    """Of a file's dictionary. Raises LoadError."""
    kind, version = _text(root, "type", "the file"), root.get("version")
    if kind != "CompositeFunction":
        raise broken("it holds no function, but a %s" % short(kind))
    if not isinstance(version, int) or version not in _ROOT_VERSIONS:
        told = " and ".join(map(str, _ROOT_VERSIONS))
        raise LoadError("this file has version %s of CNTK's format, and %s are covered" % (short(version), told))
    return _Reader(root).network()


def owner(uid: str) -> Tuple[str, int]:
    """The function whose output a variable is, and which one: what stands in its uid. ("", 0) if it is none."""
    function, found, place = uid.rpartition("_Output_")
    return (function, int(place)) if found and place.isascii() and place.isdigit() and len(place) < 6 else ("", 0)


def distinct(named: Sequence[Tuple[str, str]]) -> List[str]:
    """Of (name, uid): the name, or the uid where there is none or several have it."""
    counts = Counter(name for name, _ in named)
    return [name if name and counts[name] == 1 else uid for name, uid in named]


class _Reader:
    def __init__(self, root: Dict[str, Any]) -> None:
        self._root = _text(root, "root", "the model")
        found = [_function(each) for each in _dicts(root, "primitive_functions")]
        self._raw = {each.uid: each for each in found}
        if len(self._raw) != len(found):
            raise broken("two of its functions have one uid")
        if self._root not in self._raw:
            raise broken("its root '%s' is not among its functions" % short(self._root))
        variables = [_variable(each) for each in _dicts(root, "inputs")]
        self._variables = {each.uid: each for each in variables}
        self._bound = self._bindings()
        self._resolved: Dict[str, str] = {}
        self._blocks = self._inside()

    def network(self) -> Network:
        functions = {}
        for each in self._raw.values():
            if each.op not in ("Block", "Combine"):
                inputs = tuple(self._resolve(uid) for uid in each.inputs)
                functions[each.uid] = each._replace(inputs=inputs, block=self._blocks.get(each.uid, ""))
        results = self._results()
        return Network(functions, self._variables, self._arguments(), results, self._shapes())

    def _arguments(self) -> Tuple[Variable, ...]:
        """As CNTK finds them from the root on: what a function reads, in its order, each before the next."""
        found: Dict[str, Variable] = {}
        seen = {self._root}
        path = [iter(_as_written(self._raw[self._root]))]
        while path:
            uid = next(path[-1], None)
            if uid is None:
                path.pop()
                continue
            function = self._raw.get(owner(uid)[0])
            if function is not None:
                if function.uid not in seen:
                    seen.add(function.uid)
                    path.append(iter(_as_written(function)))
            elif uid in self._variables and self._variables[uid].kind == INPUT:
                found.setdefault(uid, self._variables[uid])
        # What only the inside of a block reads would be missing; CNTK lists it among the block's own inputs.
        read = {self._resolve(uid) for each in self._raw.values() if each.op != "Block" for uid in each.inputs}
        for uid, variable in self._variables.items():
            if variable.kind == INPUT and uid in read:
                found.setdefault(uid, variable)
        return tuple(found.values())

    def _results(self) -> Tuple[Result, ...]:
        function = self._raw[self._root]
        uids = function.inputs if function.op == "Combine" else self._outputs(function)
        named = [(self._name(uid), uid) for uid in uids]
        told = distinct(named)
        # ONNX has one name for one tensor: an output called like an input must be that input.
        taken = dict(zip(distinct([(each.name, each.uid) for each in self._arguments()]), self._arguments()))
        told = [
            uid if name in taken and self._resolve(uid) != taken[name].uid else name
            for name, (_, uid) in zip(told, named)
        ]
        return tuple(Result(name, self._resolve(uid)) for name, (_, uid) in zip(told, named))

    def _shapes(self) -> Dict[str, Tuple[int, ...]]:
        placeholders = [each for each in self._variables.values() if each.kind == PLACEHOLDER]
        known = [each for each in placeholders if each.uid in self._bound or owner(each.uid)[0] in self._raw]
        return {self._resolve(each.uid): each.shape for each in known}

    def _outputs(self, function: Function) -> List[str]:
        """The uids of a function's outputs."""
        inner = self._raw[self._body(function)] if function.op == "Block" else function
        steps = 0
        while inner.op == "Block":
            inner, steps = self._raw[self._body(inner)], steps + 1
            if steps > len(self._raw):
                raise broken("its blocks hold each other")
        count = len(inner.inputs) if inner.op == "Combine" else 1 + _has_second(inner)
        return ["%s_Output_%d" % (function.uid, place) for place in range(count)]

    def _name(self, uid: str) -> str:
        """An output is called as its function is; of several, only their uids tell them apart."""
        if uid in self._variables and not owner(uid)[0]:
            return self._variables[uid].name
        function = self._raw.get(owner(uid)[0])
        return function.name if function else ""

    def _bindings(self) -> Dict[str, str]:
        """What a placeholder stands for, by uid."""
        bound: Dict[str, str] = {}
        for each in self._raw.values():
            if each.op != "Block":
                continue
            self._body(each)
            keys, values = (each.attributes[key] for key in ("placeholders", "arguments"))
            if len(keys) != len(values):
                raise broken("%s binds %d placeholders to %d variables" % (each.where, len(keys), len(values)))
            for key, value in zip(keys, values):
                if bound.setdefault(key, value) != value:
                    raise broken("a placeholder '%s' is bound twice" % short(key))
        return bound

    def _body(self, block: Function) -> str:
        root = block.attributes["root"]
        if root not in self._raw:
            raise broken("%s lacks its body '%s'" % (block.where, short(root)))
        return root

    def _resolve(self, uid: str) -> str:
        """The primitive function's output, or the variable, that a uid stands for in the end."""
        seen: Dict[str, None] = {}
        while uid not in self._resolved:
            if uid in seen:
                raise broken("'%s' stands for itself" % short(uid))
            seen[uid] = None
            following = self._stands_for(uid)
            if following is None:
                self._resolved[uid] = uid
            else:
                uid = following
        found = self._resolved[uid]
        self._resolved.update(dict.fromkeys(seen, found))
        return found

    def _stands_for(self, uid: str) -> Optional[str]:
        """One step on that way; None at the end of it."""
        name, place = owner(uid)
        function = self._raw.get(name)
        if function is None:
            if uid in self._bound:
                return self._bound[uid]
            if uid not in self._variables:
                raise broken("'%s' is read, and nothing is called so" % short(uid))
            if self._variables[uid].kind == PLACEHOLDER:
                raise LoadError(
                    "the placeholder '%s' was never replaced, so that this is no whole model: replace it in CNTK "
                    "(Function.replace_placeholders) and save again" % short(self._variables[uid].name or uid)
                )
            if self._variables[uid].kind not in _READABLE:
                raise broken("'%s' is read, and is of a kind that cannot be" % short(uid))
            return None
        if function.op == "Block":
            return self._of_body(function, place)
        if function.op == "Combine":
            if place >= len(function.inputs):
                raise broken("%s has no output %d" % (function.where, place))
            return function.inputs[place]
        return None

    def _of_body(self, block: Function, place: int) -> str:
        return "%s_Output_%d" % (self._body(block), place)

    def _inside(self) -> Dict[str, str]:
        """function's uid → what its block is called, for sentences: that of the block whose body's root it is."""
        told = {}
        for each in self._raw.values():
            if each.op == "Block":
                told[each.attributes["root"]] = each.attributes["called"]
        return told


def _as_written(function: Function) -> Tuple[str, ...]:
    """A function's inputs in the order in which Python's side of CNTK shows them: products have theirs reversed."""
    return function.inputs[::-1] if function.op in ("Times", "TransposeTimes") else function.inputs


def _has_second(function: Function) -> bool:
    """Primitive functions with two outputs: places beside the best values, a mask beside a sequence."""
    masks = function.op == "UnpackSequence" and function.attributes.get("sequenceUnpackSuppressMaskOutput") is not True
    return masks or function.op == "TopK"


def _function(told: Dict[str, Any]) -> Function:
    uid = _text(told, "uid", "a function")
    name, kind, code = _name(told), _text(told, "type", uid), told.get("op")
    if kind != "PrimitiveFunction" or not isinstance(code, int) or code not in NAMES:
        what = "an operation %d" % code if isinstance(code, int) else "a user function"
        raise LoadError(
            "%s ('%s', uid %s) is not covered: serve the model by CNTK itself (the runtime cntk)"
            % (what, short(name), short(uid))
        )
    inputs = tuple(_texts(told, "inputs", uid))
    attributes = told.get("attributes", {})
    if not isinstance(attributes, dict):
        raise broken("'%s' has no attributes" % short(uid))
    if NAMES[code] == "Block":
        composite = told.get("block_function_composite")
        if not isinstance(composite, dict):
            raise broken("the block '%s' has no body" % short(uid))
        attributes = {
            "root": _text(composite, "root", uid),
            "called": _name(told, "block_function_op_name"),
            "placeholders": _texts(told, "block_function_composite_arguments_map_keys", uid),
            "arguments": _texts(told, "block_function_composite_arguments_map_values", uid),
        }
    return Function(uid, NAMES[code], name, inputs, attributes)


def _variable(told: Dict[str, Any]) -> Variable:
    uid, kind, datatype = _text(told, "uid", "a variable"), told.get("kind"), told.get("data_type")
    if not isinstance(kind, int) or not isinstance(datatype, int):
        raise broken("the variable '%s' has no kind or no datatype" % short(uid))
    shape, axes, value = told.get("shape"), told.get("dynamic_axis"), told.get("value")
    if not isinstance(shape, Shape) or not isinstance(axes, list) or not all(isinstance(each, Axis) for each in axes):
        raise broken("the variable '%s' has no shape or no axes" % short(uid))
    if value is not None and not isinstance(value, np.ndarray):
        raise broken("the value of '%s' is no array" % short(uid))
    if kind not in (PARAMETER, CONSTANT):
        value = None
    elif value is None:
        raise broken("'%s' has no value" % short(uid))
    sizes = tuple(max(size, -1) if size > -2 else -1 for size in reversed(shape))
    if value is not None and value.shape != sizes:
        raise broken("'%s' has the shape %s and a value of %s" % (short(uid), sizes, value.shape))
    if math.prod(size for size in sizes if size > 0) > _MAX_ELEMENTS:
        raise broken("'%s' has the shape %s" % (short(uid), sizes))
    dtype = value.dtype if value is not None else DTYPES.get(datatype)
    return Variable(uid, _name(told), kind, dtype, sizes, tuple(reversed(axes)), told.get("is_sparse") is True, value)


def _name(told: Dict[str, Any], key: str = "name") -> str:
    """Absent where it is empty."""
    value = told.get(key, "")
    return value if isinstance(value, str) else ""


def _text(told: Dict[str, Any], key: str, whose: str) -> str:
    value = told.get(key)
    if not isinstance(value, str):
        raise broken("%s has no '%s'" % (short(whose), key))
    return value


def _texts(told: Dict[str, Any], key: str, whose: str) -> Sequence[str]:
    value = told.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise broken("'%s' of %s is no list of names" % (key, short(whose)))
    return value


def _dicts(told: Dict[str, Any], key: str) -> List[Dict[str, Any]]:
    value = told.get(key)
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise broken("it has no '%s'" % key)
    return value
