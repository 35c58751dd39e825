"""Elementwise operators. Results of small constants are computed as well, because graphs compute shapes in this way."""

from typing import Any, Callable, Optional, Sequence, Tuple

import numpy as np

from runtimes.dataflow import sizes
from runtimes.dataflow.sizes import Product, Size, has_rows, over
from runtimes.dataflow.values import MAX_CONTENTS, Value, constant, mixed, propagate, repeats, rows, unsure


class CountsRows(ValueError):
    """A number depends on the number of rows in a way that is not followed."""


def elementwise(at: str, *values: Value) -> Value:
    """Compute each element of the result from the elements at the same index, after broadcasting."""
    dims = _broadcast([value.dims for value in values])
    if any(value.tainted for value in values):
        return propagate(values, dims)
    if any(value.counts_rows for value in values):
        return unsure("%s computes with the number of rows" % at, dims=dims)
    with_rows = [value for value in values if value.has_rows]
    if not with_rows:
        if dims is None and any(repeats(value) for value in values):
            return unsure("%s has operands whose sizes are not known" % at)
        return constant(dims)
    if any(value.dims is None for value in values):
        return unsure("%s has an operand of unknown rank" % at, values)
    return _along_rows(at, values, with_rows, dims)


def _along_rows(at: str, values: Sequence[Value], with_rows: Sequence[Value], dims: Any) -> Value:
    first = with_rows[0]
    assert first.axis is not None
    assert first.dims is not None
    from_end, size = first.axis - len(first.dims), first.dims[first.axis]
    for value in values:
        assert value.dims is not None
        if value.axis is not None:
            if value.axis - len(value.dims) != from_end:
                return mixed("%s pairs each row with every other" % at, values, dims)
            if (value.before, value.after) != (first.before, first.after):
                return unsure("%s joins tensors with different numbers of values for each row" % at, values, dims)
        elif len(value.dims) >= -from_end:
            other = value.dims[from_end]
            if other not in (1, size):
                if isinstance(other, int):
                    return mixed("%s allows one number of rows only" % at, values, dims)
                return unsure("%s joins the rows with a constant of unknown size" % at, values, dims)
    if dims is None:
        return unsure("%s has operands whose sizes do not fit for any number of rows" % at, values)
    return rows(dims, len(dims) + from_end, first.before, first.after)


def _broadcast(shapes: Sequence[Optional[Tuple[Size, ...]]]) -> Optional[Tuple[Size, ...]]:
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        return None
    if len(set(known)) == 1:
        return known[0]
    rank = max((len(shape) for shape in known), default=0)
    result = []
    for index in range(-rank, 0):
        size = sizes.broadcast(shape[index] for shape in known if len(shape) >= -index)
        if size is None:
            return None
        result.append(size)
    return tuple(result)


def arithmetic(at: str, operator: Callable[..., Any], *values: Value) -> Value:
    """Do what `elementwise` does, and compute the result's contents if those of the operands are known."""
    contents = _computed(operator, values)
    if isinstance(contents, str):
        return unsure("%s computes with the number of rows" % at)
    if contents is not None:
        return contents
    return elementwise(at, *values)


def _computed(operator: Callable[..., Any], values: Sequence[Value]) -> Any:
    """Return the result as a constant; None if contents are unknown; "counts" if CountsRows was raised."""
    arrays = []
    for value in values:
        if value.contents is None or value.dims is None or not all(isinstance(size, int) for size in value.dims):
            return None
        array = np.empty(len(value.contents), object)
        array[:] = value.contents if len(value.contents) else []
        arrays.append(array.reshape([size for size in value.dims if isinstance(size, int)]))
    try:
        together = np.broadcast(*arrays) if len(arrays) > 1 else arrays[0]
    except ValueError:
        return None
    if together.size > MAX_CONTENTS:
        return None
    aligned = [np.broadcast_to(array, together.shape) for array in arrays]
    try:
        result = [operator(*elements) for elements in zip(*(list(array.flat) for array in aligned))]
    except CountsRows:
        return "counts"
    return constant(together.shape, result)


def unknown_number(*elements: Any) -> None:
    """Return None, an unknown number. Raises CountsRows if an element depends on the number of rows."""
    if any(has_rows(element) for element in elements):
        raise CountsRows


def _numbers(operator: Callable[..., Any]) -> Callable[..., Any]:
    """Return the operator for numbers; its result is unknown if one of them is a symbol or None."""

    def computed(*elements: Any) -> Any:
        if any(element is None or isinstance(element, Product) for element in elements):
            return unknown_number(*elements)
        try:
            result = operator(*elements)
        except (ArithmeticError, TypeError, ValueError):
            return None
        return result if isinstance(result, (bool, int, float)) and abs(result) < 1 << 63 else None

    return computed


def _add(one: Any, two: Any) -> Any:
    if isinstance(one, float) or isinstance(two, float) or one is None or two is None:
        return _numbers(lambda a, b: a + b)(one, two)
    result = sizes.plus(one, two)
    return unknown_number(one, two) if result is None else result


def _multiply(one: Any, two: Any) -> Any:
    if isinstance(one, float) or isinstance(two, float) or one is None or two is None:
        # A size times 1.0 is the same size. Any other factor rounds it in a way that is not followed.
        for size, factor in ((one, two), (two, one)):
            if isinstance(size, Product) and factor == 1:
                return size
        return _numbers(lambda a, b: a * b)(one, two)
    return sizes.times(one, two)


def _divide(one: Any, two: Any) -> Any:
    if isinstance(one, Product) or isinstance(two, Product):
        if one is None or two is None or isinstance(one, float) or isinstance(two, float):
            return one if two == 1 and isinstance(one, Product) else unknown_number(one, two)
        result = over(one, two)
        return unknown_number(one, two) if result is None else result
    if isinstance(one, int) and isinstance(two, int):
        # Integer division rounds towards zero in some formats and down in others. The results differ if one operand is
        # negative.
        return one // two if two and (one >= 0) == (two > 0) else None if two == 0 or one % two else one // two
    return _numbers(lambda a, b: a / b)(one, two)


def _is_size(element: Any) -> bool:
    """Return whether this is a symbolic size, which is never negative."""
    return isinstance(element, Product) and element.factor > 0


def _equal(one: Any, two: Any) -> Any:
    if one is not None and one == two:
        return True
    for size, other in ((one, two), (two, one)):
        if _is_size(size) and isinstance(other, (int, float)) and other < 0:
            return False
    return _numbers(lambda a, b: a == b)(one, two)


def _less(one: Any, two: Any) -> Any:
    if isinstance(one, (int, float)) and _is_size(two) and one < 0:
        return True
    if _is_size(one) and isinstance(two, (int, float)) and two <= 0:
        return False
    return _numbers(lambda a, b: a < b)(one, two)


def _extreme(choose: Callable[..., Any], upper: bool) -> Callable[..., Any]:
    def computed(*elements: Any) -> Any:
        if len(set(map(str, elements))) == 1:
            return elements[0]
        symbols = [element for element in elements if _is_size(element)]
        others = [element for element in elements if isinstance(element, (int, float))]
        # The maximum of a size and numbers that no size is below, or the minimum of one and numbers that none exceeds.
        if (
            len(symbols) == 1
            and len(others) == len(elements) - 1
            and all(other <= 0 if upper else other >= (1 << 31) - 1 for other in others)
        ):
            return symbols[0]
        return _numbers(choose)(*elements)

    return computed


def _where(condition: Any, one: Any, two: Any) -> Any:
    if condition is None or isinstance(condition, Product):
        unknown_number(condition, one, two)
        return one if one == two else None
    return one if condition else two


def negate(operator: Callable[..., Any]) -> Callable[..., Any]:
    """Return the negation of a comparison, whose result may be unknown (None)."""

    def opposite(*numbers: Any) -> Any:
        result = operator(*numbers)
        return None if result is None else not result

    return opposite


OPERATORS = {
    "add": _add,
    "subtract": lambda one, two: 0 if one is not None and one == two else _add(one, _multiply(two, -1)),
    "multiply": _multiply,
    "negative": lambda one: _multiply(one, -1),
    "divide": _divide,
    "equal": _equal,
    "less": _less,
    "greater": lambda one, two: _less(two, one),
    "not equal": negate(_equal),
    "less or equal": negate(lambda one, two: _less(two, one)),
    "greater or equal": negate(_less),
    "not": _numbers(lambda a: not a),
    "and": _numbers(lambda a, b: bool(a and b)),
    "or": _numbers(lambda a, b: bool(a or b)),
    "maximum": _extreme(max, True),
    "minimum": _extreme(min, False),
    "modulo": _numbers(lambda a, b: a % b if a >= 0 and b > 0 else None),
    "where": _where,
    "floor": lambda one: one if isinstance(one, Product) else _numbers(lambda a: float(np.floor(a)))(one),
    "ceil": lambda one: one if isinstance(one, Product) else _numbers(lambda a: float(np.ceil(a)))(one),
    "integer": lambda one: one if isinstance(one, Product) else _numbers(int)(one),
    "float": lambda one: one if isinstance(one, Product) else _numbers(float)(one),
    "boolean": lambda one: True if one is True else _numbers(bool)(one),
}
