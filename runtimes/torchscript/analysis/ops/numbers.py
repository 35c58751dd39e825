"""Arithmetic, comparisons and conversions of numbers and small tensors, which graphs use to compute shapes."""

from typing import Any

from runtimes.dataflow.arithmetic import OPERATORS, arithmetic, negate, unknown_number
from runtimes.dataflow.indexing import concat
from runtimes.dataflow.sizes import Product, has_rows, over
from runtimes.dataflow.values import Value, constant, mixed, propagate, repeats, unsure
from runtimes.dataflow.walk import Call

from ..operators import NONE, Arguments, Items, rule


def _is_number(one: Any) -> bool:
    return isinstance(one, (bool, int, float))


def _divide(one: Any, two: Any) -> Any:
    """Divide as Python's `/` does."""
    if _is_number(one) and _is_number(two):
        return one / two if two else None
    result = None if isinstance(one, float) or isinstance(two, float) or one is None or two is None else over(one, two)
    return unknown_number(one, two) if result is None else result


def _divide_whole(one: Any, two: Any) -> Any:
    return (
        unknown_number(one, two) if isinstance(one, float) or isinstance(two, float) else OPERATORS["divide"](one, two)
    )


def _equal(one: Any, two: Any) -> Any:
    if isinstance(one, str) or isinstance(two, str):
        return one == two if isinstance(one, str) and isinstance(two, str) else unknown_number(one, two)
    for size, other in ((one, two), (two, one)):
        # A multiple of `factor` is not equal to a number that is none, as in checks that a batch has more than one
        # value for each channel.
        if isinstance(size, Product) and isinstance(other, int) and other % size.factor:
            return False
    return OPERATORS["equal"](one, two)


def _round(one: Any) -> Any:
    """Return an integer or a size unchanged; a rounded float is unknown."""
    return one if isinstance(one, (int, Product)) and not isinstance(one, bool) else unknown_number(one)


_BINARY = {
    "add": OPERATORS["add"], "sub": OPERATORS["subtract"], "subtract": OPERATORS["subtract"],
    "mul": OPERATORS["multiply"], "multiply": OPERATORS["multiply"], "div": _divide, "divide": _divide,
    "true_divide": _divide, "truediv": _divide, "floordiv": _divide_whole, "floor_divide": _divide_whole,
    "remainder": OPERATORS["modulo"], "mod": OPERATORS["modulo"], "fmod": OPERATORS["modulo"],
    "eq": _equal, "ne": negate(_equal), "lt": OPERATORS["less"], "gt": OPERATORS["greater"],
    "le": OPERATORS["less or equal"], "ge": OPERATORS["greater or equal"],
    "__and__": OPERATORS["and"], "__or__": OPERATORS["or"], "logical_and": OPERATORS["and"],
    "logical_or": OPERATORS["or"], "maximum": OPERATORS["maximum"], "minimum": OPERATORS["minimum"],
    "prim::max": OPERATORS["maximum"], "prim::min": OPERATORS["minimum"], "sym_max": OPERATORS["maximum"],
    "sym_min": OPERATORS["minimum"], "fmax": OPERATORS["maximum"], "fmin": OPERATORS["minimum"],
}  # fmt: skip


@rule(*_BINARY)
def binary(call: Call) -> Any:
    one, two, operator = call[0], call[1], _BINARY[call.node.operator]
    given = Arguments(call)
    if isinstance(one, Items) or isinstance(two, Items):
        if call.node.operator != "add":
            raise ValueError("lists are compared")
        return Items(tuple(one.items) + tuple(two.items))  # type: ignore[attr-defined]
    if "a" in given and one.rank == 1:  # lists of numbers; a tensor would be named `self`
        return _lists(call, one, two)
    alpha = given.number("alpha", 1)
    if has_rows(alpha):
        return unsure("%s computes with the number of rows" % call.at)
    if alpha != 1:
        operator = unknown_number
    mode = given.number("rounding_mode")
    if mode is not None:
        operator = _divide_whole
    return arithmetic(call.at, operator, one, two)


def _lists(call: Call, one: Value, two: Value) -> Value:
    if call.node.operator == "add":
        return concat(call.at, [one, two], 0)
    if one.tainted or two.tainted or one.contents is None or two.contents is None:
        raise ValueError("lists that are not known")
    if call.node.operator not in ("eq", "ne"):
        raise ValueError("lists are computed with")
    same = len(one.contents) == len(two.contents)
    found = [
        arithmetic(call.at, _equal, constant([], [a]), constant([], [b])) for a, b in zip(one.contents, two.contents)
    ]
    if same and any(each.tainted for each in found):
        return propagate(found)
    answers = [(each.contents or (None,))[0] for each in found]
    equal = False if not same or False in answers else None if None in answers else True
    return constant([], [None if equal is None else equal == (call.node.operator == "eq")])


@rule("neg negative")
def negative(call: Call) -> Value:
    return arithmetic(call.at, OPERATORS["negative"], call[0])


@rule("__not__ logical_not sym_not not_")
def inverted(call: Call) -> Value:
    return arithmetic(call.at, OPERATORS["not"], call[0])


@rule("floor ceil round trunc fix")
def rounded(call: Call) -> Value:
    operator = OPERATORS[call.node.operator] if call.node.operator in ("floor", "ceil") else _round

    def whole(one: Any) -> Any:
        result = operator(one)
        return int(result) if isinstance(result, float) and abs(result) < 1 << 53 else result

    return arithmetic(call.at, whole, call[0])


@rule("__is__ __isnot__")
def identical(call: Call) -> Value:
    one, two = (NONE if value is None else value for value in (call.get(0), call.get(1)))
    same = one == NONE and two == NONE
    if one != NONE and two != NONE:
        # Whether two tensors are the same object does not depend on their values, and is the same for all requests.
        return constant([], [call.node.operator == "__is__"] if call.node.inputs[0] == call.node.inputs[1] else None)
    if one.tainted or two.tainted:  # a value that is not followed may be None
        raise ValueError("not known to be None")
    if any(isinstance(value, Value) and value.dims is None for value in (one, two)):
        return constant([])  # an unknown constant, which may be None
    return constant([], [same == (call.node.operator == "__is__")])


@rule("Int Float Bool ScalarImplicit IntImplicit FloatImplicit item _local_scalar_dense prim::NumToTensor")
@rule("scalar_tensor sym_float sym_int")
def number(call: Call) -> Value:
    """Convert a tensor with one element, or a number."""
    value, kind = call[0], call.node.operator
    if value.tainted:
        return propagate([value], [])
    if value.has_rows:
        return mixed("%s allows one row only" % call.at)
    if repeats(value._replace(contents=None)):
        return unsure("%s takes one element of a constant that is repeated for each row" % call.at)
    if value.contents is None or len(value.contents) != 1:
        return unsure("%s is not followed" % call.at) if value.counts_rows else constant([])
    convert = {"Int": "integer", "Float": "float", "Bool": "boolean"}.get(kind)
    one = constant([], value.contents)
    return one if convert is None else arithmetic(call.at, OPERATORS[convert], one)


@rule("tensor as_tensor")
def tensor(call: Call) -> Value:
    value = call[0]
    if isinstance(value, Items):
        if value.tainted:
            return propagate([value])
        if value.has_rows or value.counts_rows:
            return unsure("%s is not followed" % call.at)
        return constant()
    return value


@rule("prim::dtype prim::device prim::layout is_floating_point is_complex prim::is_cuda is_grad_enabled format")
@rule("prim::is_nested prim::is_quantized prim::is_mkldnn prim::requires_grad device prim::type percentFormat")
@rule("get_autocast_dtype is_autocast_enabled is_autocast_cpu_enabled is_scripting")
def metadata(call: Call) -> Value:
    """Return what does not depend on values or sizes."""
    if call.node.operator in ("format", "percentFormat"):
        return (
            constant([])
            if not any(value.tainted or repeats(value) for value in call.present)
            else unsure("a string is not followed")
        )
    if call.node.operator in ("prim::is_nested",):
        return constant([], [False])
    return constant([])
