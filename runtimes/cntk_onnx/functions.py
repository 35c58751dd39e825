"""A CNTK model as a flat network: primitive functions between variables, blocks taken apart.

In the file all functions lie side by side, also those inside of blocks: a block binds the placeholders
that its functions read to variables outside. Following these bindings is all that taking it apart needs.
"""

from typing import Any, Dict, List, NamedTuple, NoReturn, Optional, Sequence, Tuple

import numpy as np

from runtimes.cntk_onnx.dictionary import Axis, Shape
from runtimes.cntk_onnx.opcodes import NAMES
from runtimes.cntk_onnx.protobuf import broken
from runtimes.contract import LoadError

BATCH = "defaultBatchAxis"
INPUT, OUTPUT, PARAMETER, CONSTANT, PLACEHOLDER = range(5)
DTYPES = {1: np.dtype(np.float32), 2: np.dtype(np.float64), 4: np.dtype(np.float16)}
# Versions of the root's dictionary that CNTK 2.7 reads; 1 is of CNTK 2.0.
_ROOT_VERSIONS = (1, 2, 3)


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
        told = "'%s'" % self.name if self.name else "without a name"
        inside = " in a block %s" % self.block if self.block else ""
        return "%s, %s (uid %s)%s" % (self.op, told, self.uid, inside)

    def refuse(self, why: str) -> NoReturn:
        raise LoadError("%s: %s; serve the model by CNTK itself (the runtime cntk)" % (self.where, why))


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
    if root.get("type") != "CompositeFunction":
        raise broken("it holds no function, but %s" % (_short(root.get("type")) or "something else"))
    version = root.get("version")
    if version not in _ROOT_VERSIONS:
        raise LoadError("this file has version %s of CNTK's format, and %s are covered" % (version, _ROOT_VERSIONS))
    return _Reader(root).network()


def owner(uid: str) -> Tuple[str, int]:
    """The function whose output a variable is, and which one: what stands in its uid. ("", 0) if it is none."""
    function, found, place = uid.rpartition("_Output_")
    return (function, int(place)) if found and place.isascii() and place.isdigit() and len(place) < 6 else ("", 0)


class _Reader:
    def __init__(self, root: Dict[str, Any]) -> None:
        self._root = _text(root, "root", "the model")
        found = [_function(each) for each in _dicts(root, "primitive_functions")]
        self._raw = {each.uid: each for each in found}
        if len(self._raw) != len(found):
            raise broken("two of its functions have one uid")
        if self._root not in self._raw:
            raise broken("its root '%s' is not among its functions" % _short(self._root))
        variables = [_variable(each) for each in _dicts(root, "inputs")]
        self._variables = {each.uid: each for each in variables}
        self._bound = self._bindings()
        self._blocks = self._inside()

    def network(self) -> Network:
        functions = {}
        for each in self._raw.values():
            if each.op not in ("Block", "Combine"):
                inputs = tuple(self._resolve(uid) for uid in each.inputs)
                functions[each.uid] = each._replace(inputs=inputs, block=self._blocks.get(each.uid, ""))
        results = self._results()
        arguments = tuple(each for each in self._variables.values() if each.kind == INPUT)
        return Network(functions, self._variables, arguments, results, self._shapes())

    def _results(self) -> Tuple[Result, ...]:
        function = self._raw[self._root]
        uids = function.inputs if function.op == "Combine" else self._outputs(function)
        named = [(self._name(uid), uid) for uid in uids]
        names = [name for name, _ in named]
        # A name that two have names none.
        told = [name if name and names.count(name) == 1 else uid for name, uid in named]
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
                    raise broken("a placeholder '%s' is bound twice" % _short(key))
        return bound

    def _body(self, block: Function) -> str:
        root = block.attributes["root"]
        if root not in self._raw:
            raise broken("%s lacks its body '%s'" % (block.where, _short(root)))
        return root

    def _resolve(self, uid: str) -> str:
        """The primitive function's output, or the variable, that a uid stands for in the end."""
        seen = set()
        while True:
            if uid in seen:
                raise broken("'%s' stands for itself" % _short(uid))
            seen.add(uid)
            name, place = owner(uid)
            function = self._raw.get(name)
            if function is None:
                if uid in self._bound:
                    uid = self._bound[uid]
                    continue
                if uid not in self._variables:
                    raise broken("'%s' is read, and nothing is called so" % _short(uid))
                if self._variables[uid].kind == PLACEHOLDER:
                    raise LoadError(
                        "the placeholder '%s' was never replaced, so that this is no whole model: replace it in CNTK "
                        "(Function.replace_placeholders) and save again" % _short(self._variables[uid].name or uid)
                    )
                return uid
            if function.op == "Block":
                uid = self._of_body(function, place)
            elif function.op == "Combine":
                if place >= len(function.inputs):
                    raise broken("%s has no output %d" % (function.where, place))
                uid = function.inputs[place]
            else:
                return uid

    def _of_body(self, block: Function, place: int) -> str:
        return "%s_Output_%d" % (self._body(block), place)

    def _inside(self) -> Dict[str, str]:
        """function's uid → what its block is called, for sentences: that of the block whose body's root it is."""
        told = {}
        for each in self._raw.values():
            if each.op == "Block":
                told[each.attributes["root"]] = each.attributes["called"]
        return told


def _has_second(function: Function) -> bool:
    """Primitive functions with two outputs: places beside the best values, a mask beside a sequence."""
    masks = function.op == "UnpackSequence" and not function.attributes.get("sequenceUnpackSuppressMaskOutput")
    return masks or function.op == "TopK"


def _function(told: Dict[str, Any]) -> Function:
    uid = _text(told, "uid", "a function")
    name = str(told.get("name", ""))
    kind = told.get("type")
    code = told.get("op")
    if kind != "PrimitiveFunction" or code not in NAMES:
        what = "a user function" if kind == "UserDefinedFunction" or "op" not in told else "an operation %s" % code
        raise LoadError(
            "%s ('%s', uid %s) is not covered: serve the model by CNTK itself (the runtime cntk)"
            % (what, _short(name), _short(uid))
        )
    inputs = tuple(_texts(told, "inputs", uid))
    attributes = told.get("attributes", {})
    if not isinstance(attributes, dict):
        raise broken("'%s' has no attributes" % _short(uid))
    if NAMES[code] == "Block":
        composite = told.get("block_function_composite")
        if not isinstance(composite, dict):
            raise broken("the block '%s' has no body" % _short(uid))
        attributes = {
            "root": _text(composite, "root", uid),
            "called": str(told.get("block_function_op_name", "")),
            "placeholders": _texts(told, "block_function_composite_arguments_map_keys", uid),
            "arguments": _texts(told, "block_function_composite_arguments_map_values", uid),
        }
    return Function(uid, NAMES[code], name, inputs, attributes)


def _variable(told: Dict[str, Any]) -> Variable:
    uid = _text(told, "uid", "a variable")
    shape, axes, value = told.get("shape"), told.get("dynamic_axis"), told.get("value")
    if not isinstance(shape, Shape) or not isinstance(axes, list) or not all(isinstance(each, Axis) for each in axes):
        raise broken("the variable '%s' has no shape or no axes" % _short(uid))
    if value is not None and not isinstance(value, np.ndarray):
        raise broken("the value of '%s' is no array" % _short(uid))
    kind = told.get("kind")
    if kind in (PARAMETER, CONSTANT) and value is None:
        raise broken("'%s' has no value" % _short(uid))
    sizes = tuple(max(size, -1) if size > -2 else -1 for size in reversed(shape))
    if value is not None and value.shape != sizes:
        raise broken("'%s' has the shape %s and a value of %s" % (_short(uid), sizes, value.shape))
    dtype = value.dtype if value is not None else DTYPES.get(told.get("data_type", 0))
    return Variable(
        uid, str(told.get("name", "")), kind if isinstance(kind, int) else -1, dtype, sizes,
        tuple(reversed(axes)), bool(told.get("is_sparse", False)), value,
    )  # fmt: skip


def _text(told: Dict[str, Any], key: str, whose: str) -> str:
    value = told.get(key)
    if not isinstance(value, str):
        raise broken("%s has no '%s'" % (_short(whose), key))
    return value


def _texts(told: Dict[str, Any], key: str, whose: str) -> Sequence[str]:
    value = told.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise broken("'%s' of %s is no list of names" % (key, _short(whose)))
    return value


def _dicts(told: Dict[str, Any], key: str) -> List[Dict[str, Any]]:
    value = told.get(key)
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise broken("it has no '%s'" % key)
    return value


def _short(value: Any) -> str:
    """Names come from the file: sentences about them stay sentences."""
    text = "" if value is None else str(value)
    return text if len(text) <= 80 else text[:77] + "…"
