"""Reads a CNTK model as a flat network of primitive functions and variables, with all blocks inlined.

The file lists all functions in one flat list, including those inside blocks. A block binds the placeholders that its
functions read to variables outside, so following these bindings is all that inlining requires.
"""

import math
from collections import Counter
from typing import Any, Dict, List, NamedTuple, NoReturn, Optional, Sequence, Tuple

import numpy as np

from runtimes.contract import LoadError

from .dictionary import Axis, Shape
from .opcodes import NAMES
from .protobuf import MAX_MESSAGE_LENGTH, broken, shorten

BATCH = "defaultBatchAxis"
INPUT, OUTPUT, PARAMETER, CONSTANT, PLACEHOLDER = range(5)
_READABLE = (INPUT, PARAMETER, CONSTANT)
DTYPES = {1: np.dtype(np.float32), 2: np.dtype(np.float64), 4: np.dtype(np.float16)}
# Versions of the root dictionary that CNTK 2.7 reads; version 1 is CNTK 2.0's.
_ROOT_VERSIONS = (1, 2, 3)
# Of one row of an input, or of a parameter. Far more than fits in memory; it keeps products of sizes within 64 bits.
_MAX_ELEMENTS = 1 << 40
_ADVICE = "; serve the model by CNTK itself (the runtime cntk)"


class NotCovered(LoadError):
    """A function or an input that is not translated, so that outputs that depend on it are not served.

    why  without the advice, which is said once for all of them
    """

    def __init__(self, why: str, advice: str = _ADVICE) -> None:
        super().__init__(why + advice)
        self.why, self.advice = why, advice


class Variable(NamedTuple):
    """An input, parameter, constant or placeholder.

    kind   INPUT, OUTPUT, PARAMETER, CONSTANT or PLACEHOLDER
    shape  without the dynamic axes, row-major like in CNTK's Python API; -1 is a free dimension
    axes   dynamic axes, the batch first
    value  of a parameter or constant; None for others
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
    """
    op      CNTK's name of the operation
    inputs  uids of variables, in CNTK's order
    block   operation of the block that contains it ("LSTM"), or ""
    """

    uid: str
    op: str
    name: str
    inputs: Tuple[str, ...]
    attributes: Dict[str, Any]
    block: str = ""

    @property
    def where(self) -> str:
        name = "'%s'" % shorten(self.name) if self.name else "without a name"
        inside = " in a block %s" % shorten(self.block) if self.block else ""
        return "%s, %s (uid %s)%s" % (self.op, name, shorten(self.uid), inside)

    def refuse(self, why: str) -> NoReturn:
        raise NotCovered("%s: %s" % (self.where, shorten(why, MAX_MESSAGE_LENGTH)))


class Result(NamedTuple):
    """An output of the model: its name and the uid of its variable."""

    name: str
    uid: str


class Network(NamedTuple):
    """
    functions  by uid
    variables  by uid
    arguments  the model's inputs, in CNTK's order
    results    the model's outputs, in CNTK's order
    shapes     shapes of outputs, by uid. The file has them only for those to which placeholders are bound
    """

    functions: Dict[str, Function]
    variables: Dict[str, Variable]
    arguments: Tuple[Variable, ...]
    results: Tuple[Result, ...]
    shapes: Dict[str, Tuple[int, ...]]


def network(root: Dict[str, Any]) -> Network:
    """Read the dictionary of a file. Raises LoadError."""
    kind, version = _text(root, "type", "the file"), root.get("version")
    if kind != "CompositeFunction":
        raise broken("it contains a %s instead of a function" % shorten(kind))
    if not isinstance(version, int) or version not in _ROOT_VERSIONS:
        versions = ", ".join(map(str, _ROOT_VERSIONS))
        raise LoadError(
            "this file has version %s of CNTK's format; the versions %s are covered" % (shorten(version), versions)
        )
    return _NetworkReader(root).network()


def producer(uid: str) -> Tuple[str, int]:
    """Return the uid of the function that computes an output, and which of its outputs it is.

    Both are part of the output's uid. Returns ("", 0) for a uid that is not an output's.
    """
    function, found, index = uid.rpartition("_Output_")
    return (function, int(index)) if found and index.isascii() and index.isdigit() and len(index) < 6 else ("", 0)


def unique_names(named: Sequence[Tuple[str, str]]) -> List[str]:
    """For each (name, uid), return the name, or the uid if the name is empty or not unique."""
    counts = Counter(name for name, _ in named)
    return [name if name and counts[name] == 1 else uid for name, uid in named]


class _NetworkReader:
    def __init__(self, root: Dict[str, Any]) -> None:
        self._root = _text(root, "root", "the model")
        found = [_function(each) for each in _dicts(root, "primitive_functions")]
        self._raw = {each.uid: each for each in found}
        if len(self._raw) != len(found):
            raise broken("two of its functions have the same uid")
        if self._root not in self._raw:
            raise broken("its root '%s' is not among its functions" % shorten(self._root))
        variables = [_variable(each) for each in _dicts(root, "inputs")]
        self._variables = {each.uid: each for each in variables}
        self._bound = self._bindings()
        self._resolved: Dict[str, str] = {}
        self._blocks = self._block_names()

    def network(self) -> Network:
        functions = {}
        for each in self._raw.values():
            if each.op not in ("Block", "Combine"):
                inputs = tuple(self._resolve(uid) for uid in each.inputs)
                functions[each.uid] = each._replace(inputs=inputs, block=self._blocks.get(each.uid, ""))
        results = self._results()
        return Network(functions, self._variables, self._arguments(), results, self._shapes())

    def _arguments(self) -> Tuple[Variable, ...]:
        """Find the inputs in CNTK's order: depth-first from the root, following each function's inputs in order."""
        found: Dict[str, Variable] = {}
        seen = {self._root}
        path = [iter(_as_written(self._raw[self._root]))]
        while path:
            uid = next(path[-1], None)
            if uid is None:
                path.pop()
                continue
            function = self._raw.get(producer(uid)[0])
            if function is not None:
                if function.uid not in seen:
                    seen.add(function.uid)
                    path.append(iter(_as_written(function)))
            elif uid in self._variables and self._variables[uid].kind == INPUT:
                found.setdefault(uid, self._variables[uid])
        # Inputs that only functions inside a block read are missing so far. CNTK finds them as inputs of the block.
        used = {self._resolve(uid) for each in self._raw.values() if each.op != "Block" for uid in each.inputs}
        for uid, variable in self._variables.items():
            if variable.kind == INPUT and uid in used:
                found.setdefault(uid, variable)
        return tuple(found.values())

    def _results(self) -> Tuple[Result, ...]:
        function = self._raw[self._root]
        uids = function.inputs if function.op == "Combine" else self._outputs(function)
        named = [(self._name(uid), uid) for uid in dict.fromkeys(uids)]  # trainers list a loss that they report twice
        names = unique_names(named)
        # A name in ONNX belongs to a single tensor, so an output may share an input's name only if it is that input.
        taken = dict(zip(unique_names([(each.name, each.uid) for each in self._arguments()]), self._arguments()))
        names = [
            uid if name in taken and self._resolve(uid) != taken[name].uid else name
            for name, (_, uid) in zip(names, named)
        ]
        return tuple(Result(name, self._resolve(uid)) for name, (_, uid) in zip(names, named))

    def _shapes(self) -> Dict[str, Tuple[int, ...]]:
        placeholders = [each for each in self._variables.values() if each.kind == PLACEHOLDER]
        known = [each for each in placeholders if each.uid in self._bound or producer(each.uid)[0] in self._raw]
        return {self._resolve(each.uid): each.shape for each in known}

    def _outputs(self, function: Function) -> List[str]:
        """Return the uids of a function's outputs."""
        inner = self._raw[self._body(function)] if function.op == "Block" else function
        steps = 0
        while inner.op == "Block":
            inner, steps = self._raw[self._body(inner)], steps + 1
            if steps > len(self._raw):
                raise broken("its blocks contain each other")
        count = len(inner.inputs) if inner.op == "Combine" else 1 + _has_second_output(inner)
        return ["%s_Output_%d" % (function.uid, index) for index in range(count)]

    def _name(self, uid: str) -> str:
        """Return the name of a variable. An output has the name of its function, even if it is one of several."""
        if uid in self._variables and not producer(uid)[0]:
            return self._variables[uid].name
        function = self._raw.get(producer(uid)[0])
        return function.name if function else ""

    def _bindings(self) -> Dict[str, str]:
        """Return the uid to which each placeholder is bound."""
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
                    raise broken("a placeholder '%s' is bound twice" % shorten(key))
        return bound

    def _body(self, block: Function) -> str:
        root = block.attributes["root"]
        if root not in self._raw:
            raise broken("%s has no body '%s'" % (block.where, shorten(root)))
        return root

    def _resolve(self, uid: str) -> str:
        """Follow a uid through blocks and bindings to a variable or to the output of a primitive function."""
        seen: Dict[str, None] = {}
        while uid not in self._resolved:
            if uid in seen:
                raise broken("'%s' refers to itself" % shorten(uid))
            seen[uid] = None
            target = self._target(uid)
            if target is None:
                self._resolved[uid] = uid
            else:
                uid = target
        found = self._resolved[uid]
        self._resolved.update(dict.fromkeys(seen, found))
        return found

    def _target(self, uid: str) -> Optional[str]:
        """Follow one reference; None if the uid is not a reference."""
        name, index = producer(uid)
        function = self._raw.get(name)
        if function is None:
            if uid in self._bound:
                return self._bound[uid]
            if uid not in self._variables:
                raise broken("'%s' is read, but not defined" % shorten(uid))
            if self._variables[uid].kind == PLACEHOLDER:
                raise LoadError(
                    "the placeholder '%s' was never replaced, so the model is incomplete: replace it in CNTK "
                    "(Function.replace_placeholders) and save the model again"
                    % shorten(self._variables[uid].name or uid)
                )
            if self._variables[uid].kind not in _READABLE:
                raise broken("'%s' is read, and has a kind that functions cannot read" % shorten(uid))
            return None
        if function.op == "Block":
            return self._body_output(function, index)
        if function.op == "Combine":
            if index >= len(function.inputs):
                raise broken("%s has no output %d" % (function.where, index))
            return function.inputs[index]
        return None

    def _body_output(self, block: Function, index: int) -> str:
        return "%s_Output_%d" % (self._body(block), index)

    def _block_names(self) -> Dict[str, str]:
        """For error messages: uid of the root function of a block's body → operation of the block."""
        return {
            each.attributes["root"]: each.attributes["block_op"] for each in self._raw.values() if each.op == "Block"
        }


def _as_written(function: Function) -> Tuple[str, ...]:
    """Return a function's inputs in the order of CNTK's Python API, which reverses the operands of products."""
    return function.inputs[::-1] if function.op in ("Times", "TransposeTimes") else function.inputs


def _has_second_output(function: Function) -> bool:
    """Whether a primitive function has two outputs: values and indices, or a sequence and its mask."""
    masks = function.op == "UnpackSequence" and function.attributes.get("sequenceUnpackSuppressMaskOutput") is not True
    return masks or function.op == "TopK"


def _function(record: Dict[str, Any]) -> Function:
    uid = _text(record, "uid", "a function")
    name, kind, code = _name(record), _text(record, "type", uid), record.get("op")
    if kind != "PrimitiveFunction" or not isinstance(code, int) or code not in NAMES:
        what = "an operation %d" % code if isinstance(code, int) else "a user function"
        raise LoadError(
            "%s ('%s', uid %s) is not covered: serve the model by CNTK itself (the runtime cntk)"
            % (what, shorten(name), shorten(uid))
        )
    inputs = tuple(_texts(record, "inputs", uid))
    attributes = record.get("attributes", {})
    if not isinstance(attributes, dict):
        raise broken("'%s' has no attributes" % shorten(uid))
    if NAMES[code] == "Block":
        composite = record.get("block_function_composite")
        if not isinstance(composite, dict):
            raise broken("the block '%s' has no body" % shorten(uid))
        attributes = {
            "root": _text(composite, "root", uid),
            "block_op": _name(record, "block_function_op_name"),
            "placeholders": _texts(record, "block_function_composite_arguments_map_keys", uid),
            "arguments": _texts(record, "block_function_composite_arguments_map_values", uid),
        }
    return Function(uid, NAMES[code], name, inputs, attributes)


def _variable(record: Dict[str, Any]) -> Variable:
    uid, kind, datatype = _text(record, "uid", "a variable"), record.get("kind"), record.get("data_type")
    if not isinstance(kind, int) or not isinstance(datatype, int):
        raise broken("the variable '%s' has no kind or no datatype" % shorten(uid))
    shape, axes, value = record.get("shape"), record.get("dynamic_axis"), record.get("value")
    if not isinstance(shape, Shape) or not isinstance(axes, list) or not all(isinstance(each, Axis) for each in axes):
        raise broken("the variable '%s' has no shape or no axes" % shorten(uid))
    if value is not None and not isinstance(value, np.ndarray):
        raise broken("the value of '%s' is not an array" % shorten(uid))
    if kind not in (PARAMETER, CONSTANT):
        value = None
    elif value is None:
        raise broken("'%s' has no value" % shorten(uid))
    sizes = tuple(max(size, -1) if size > -2 else -1 for size in reversed(shape))
    if value is not None and value.shape != sizes:
        raise broken("'%s' has the shape %s and a value of %s" % (shorten(uid), sizes, value.shape))
    if math.prod(size for size in sizes if size > 0) > _MAX_ELEMENTS:
        raise broken("'%s' has the shape %s" % (shorten(uid), sizes))
    dtype = value.dtype if value is not None else DTYPES.get(datatype)
    return Variable(
        uid, _name(record), kind, dtype, sizes, tuple(reversed(axes)), record.get("is_sparse") is True, value
    )


def _name(record: Dict[str, Any], key: str = "name") -> str:
    """Return a name. CNTK does not write empty ones."""
    value = record.get(key, "")
    return value if isinstance(value, str) else ""


def _text(record: Dict[str, Any], key: str, whose: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise broken("%s has no '%s'" % (shorten(whose), key))
    return value


def _texts(record: Dict[str, Any], key: str, whose: str) -> Sequence[str]:
    value = record.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise broken("'%s' of %s is not a list of names" % (key, shorten(whose)))
    return value


def _dicts(record: Dict[str, Any], key: str) -> List[Dict[str, Any]]:
    value = record.get(key)
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise broken("it has no '%s'" % key)
    return value
