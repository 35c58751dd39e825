"""Operators that compute along dimensions."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

from runtimes.dataflow import sizes
from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.shaping import normalize_axis, transpose
from runtimes.dataflow.sizes import Size, fresh, has_rows
from runtimes.dataflow.values import Value, as_rows, constant, mixed, propagate, repeats, rows, unsure

_COUNTS = "returns a number of elements that depends on the values of"


def reduce(at: str, value: Value, axes: Optional[Sequence[int]], keep: bool, does: str = "reduces over") -> Value:
    """Combine all values along the axes into one; None: along all axes. `does` is the verb of the reason."""
    if value.dims is None:
        return propagate([value]) if value.tainted else constant([] if axes is None and not keep else None)
    rank = len(value.dims)
    reduced = {normalize_axis(axis, rank) for axis in axes} if axes is not None else set(range(rank))
    dims = [1 if index in reduced else size for index, size in enumerate(value.dims) if keep or index not in reduced]
    if value.tainted:
        return propagate([value], dims)
    if value.axis in reduced:
        return mixed("%s %s the rows" % (at, does), dims=dims)
    if any(has_rows(value.dims[index]) for index in reduced) or value.counts_rows:
        return unsure("%s %s values that are repeated for each row" % (at, does), dims=dims)
    if value.axis is None:
        return constant(dims)
    axis = value.axis if keep else value.axis - sum(index < value.axis for index in reduced)
    return rows(dims, axis, value.before, value.after)


def along(at: str, value: Value, axes: Optional[Sequence[int]], does: str = "works along", size: Any = 0) -> Value:
    """Compute each value from all values along the axes; None: from all axes.

    size: of the result along the axes, None if unknown; 0: as before. does: the verb of the reason.
    """
    if value.dims is None:
        return propagate([value]) if value.tainted else constant()
    rank = len(value.dims)
    over = {normalize_axis(axis, rank) for axis in axes} if axes is not None else set(range(rank))
    dims = value.dims
    if size != 0:
        dims = tuple((fresh() if size is None else size) if index in over else old for index, old in enumerate(dims))
    if value.tainted:
        return propagate([value], dims)
    if value.axis in over:
        return mixed("%s %s the rows" % (at, does), dims=dims)
    if any(has_rows(value.dims[index]) for index in over) or value.counts_rows:
        return unsure("%s %s values that are repeated for each row" % (at, does), dims=dims)
    if has_rows(size):
        return unsure("%s returns as many values as there are rows" % at, dims=dims)
    return value._replace(dims=dims, contents=None)


def found_in_all(
    at: str, values: Sequence[Value], outputs: int, dims: Optional[Sequence[Size]] = None, does: str = _COUNTS
) -> List[Value]:
    """Return the outputs of an operator that lists elements which it finds in these values, such as those not zero.

    dims: of each output if none of the values has rows. does: the verb of the reason if one has.
    """
    if any(value.tainted for value in values):
        return [propagate(values)] * outputs
    if any(value.has_rows or repeats(value) for value in values):
        return [mixed("%s %s all rows" % (at, does))] * outputs
    return [constant(dims)] * outputs


def matmul(at: str, one: Value, two: Value) -> Value:
    """Multiply as numpy.matmul does: matrices in the last two dimensions, the others are broadcast."""
    if one.tainted or two.tainted:
        return propagate([one, two])
    if one.dims is None or two.dims is None or not one.dims or not two.dims:
        if one.has_rows or two.has_rows or repeats(one) or repeats(two):
            return unsure("%s multiplies a tensor of unknown rank" % at)
        return constant()
    letters = {"i": one.dims[-2:-1], "j": two.dims[-1:] if len(two.dims) > 1 else ()}
    left = ["i", "k"] if letters["i"] else ["k"]
    right = ["k", "j"] if letters["j"] else ["k"]
    result = (["i"] if letters["i"] else []) + (["j"] if letters["j"] else [])
    batch = max(len(one.dims) - len(left), len(two.dims) - len(right))
    names = ["b%d" % index for index in range(batch)]
    return contract(
        at,
        [
            (one, names[batch - len(one.dims) + len(left) :] + left),
            (two, names[batch - len(two.dims) + len(right) :] + right),
        ],
        names + result,
    )


def gemm(at: str, one: Value, two: Value, added: Optional[Value], transpose_one: bool, transpose_two: bool) -> Value:
    """Multiply two matrices, each transposed first if its flag is set, and add a third value."""
    one, two = (
        transpose(at, value) if transposed else value
        for value, transposed in ((one, transpose_one), (two, transpose_two))
    )
    product = matmul(at, one, two)
    return product if added is None else elementwise(at, product, added)


def einsum(at: str, equation: str, values: Sequence[Value]) -> Value:
    """Evaluate an equation as numpy.einsum does."""
    if any(value.tainted for value in values):
        return propagate(values)
    if not any(value.has_rows or repeats(value) for value in values):
        return constant()
    equation = equation.replace(" ", "")
    terms, arrow, output = equation.partition("->")
    parts = terms.split(",")
    if len(parts) != len(values) or any(value.dims is None for value in values):
        return unsure("%s is not followed" % at)
    operands = []
    most = 0
    for part, value in zip(parts, values):
        letters = _letters(part, len(value.dims or ()))
        if letters is None or len(letters) != len(value.dims or ()):
            return unsure("%s is not followed" % at)
        most = max(most, sum(len(letter) > 1 for letter in letters))
        operands.append((value, letters))
    if arrow:
        result = _letters(output, len(output.replace("...", "")) + most)
    else:
        flat = [letter for _, letters in operands for letter in letters]
        single = sorted(letter for letter in set(flat) if len(letter) == 1 and flat.count(letter) == 1)
        result = ["e%d" % index for index in range(most, 0, -1)] + single
    return unsure("%s is not followed" % at) if result is None else contract(at, operands, result)


def _letters(term: str, rank: int) -> Optional[List[str]]:
    """Return a name for each dimension; those that "..." stands for are numbered from the right. None if impossible."""
    if "..." not in term:
        return list(term)
    front, _, rest = term.partition("...")
    hidden = rank - len(front) - len(rest)
    return None if hidden < 0 else list(front) + ["e%d" % index for index in range(hidden, 0, -1)] + list(rest)


def contract(at: str, operands: Sequence[Tuple[Value, List[str]]], result: List[str]) -> Value:
    """Return a sum of products. Dimensions are named, and those that the result does not name are summed over."""
    found: Dict[str, List[Size]] = {}
    for value, letters in operands:
        if value.counts_rows:
            return unsure("%s computes with the number of rows" % at)
        for letter, size in zip(letters, value.dims or ()):
            found.setdefault(letter, []).append(size)
    dims = []
    for letter in result:
        common = sizes.broadcast(found.get(letter, [1]))
        if common is None:
            return _fixed(at, operands, letter)
        dims.append(common)
    with_rows = [(value, letters[value.axis]) for value, letters in operands if value.axis is not None]
    for value, letters in operands:
        if len(set(letters)) < len(letters) and value.axis is not None:
            return unsure("%s takes a diagonal" % at)
    named = {letter for _, letter in with_rows}
    if len(named) > 1:
        return mixed("%s pairs each row with every other" % at, dims=dims)
    if named - set(result):
        return mixed("%s sums over the rows" % at, dims=dims)
    if any(has_rows(size) for letter, found_sizes in found.items() if letter not in result for size in found_sizes):
        return unsure("%s sums over values that are repeated for each row" % at)
    if not with_rows:
        return constant(dims)
    first, letter = with_rows[0]
    assert first.axis is not None
    assert first.dims is not None
    if any((value.before, value.after) != (first.before, first.after) for value, _ in with_rows):
        return unsure("%s joins tensors with different numbers of values for each row" % at)
    if any(size not in (1, first.dims[first.axis]) for size in found[letter]):
        return _fixed(at, operands, letter)
    return rows(dims, result.index(letter), first.before, first.after)


def _fixed(at: str, operands: Sequence[Tuple[Value, List[str]]], letter: str) -> Value:
    found_sizes = [value.dims[letters.index(letter)] for value, letters in operands if letter in letters and value.dims]
    if all(isinstance(size, int) or size == sizes.ROWS for size in found_sizes):
        return mixed("%s allows one number of rows only" % at)
    return unsure("%s joins tensors whose sizes do not fit for any number of rows" % at)


def windows(
    at: str, value: Value, channels: Any, spatial: Optional[Sequence[Any]], others: Sequence[Value] = ()
) -> Value:
    """Compute [N, channels, …] from [N, channels, …], each value from a window of the same image and constants.

    channels: of the result; None if unknown. spatial: sizes of the result, each None if unknown; None if all are.
    """
    if value.tainted or any(other.tainted for other in others):
        return propagate([value] + list(others))
    if any(other.has_rows or repeats(other) for other in others):
        return unsure("%s has weights that depend on the inputs" % at)
    if value.dims is None:
        return unsure("%s works on a tensor of unknown rank" % at) if value.has_rows else constant()
    count = len(value.dims) - 2
    known = [fresh() if size is None else size for size in (spatial or [None] * count)]
    dims = [value.dims[0], fresh() if channels is None else channels] + known
    if value.axis is None:
        return unsure("%s works on a constant" % at) if repeats(value) else constant(dims)
    if value.axis == 1:
        return mixed("%s sums over the rows" % at, dims=dims)
    if value.axis > 1:
        return unsure("%s moves windows over the rows" % at, dims=dims)
    return rows(dims, 0, value.before, value.after)


convolution = windows


def recurrent(
    at: str, value: Value, states: Sequence[Value], lengths: Optional[Value], others: Sequence[Value], batch: int = 1
) -> Optional[Value]:
    """Return a tainted value if a recurrent layer may mix rows, or None if it does not.

    value: [time, N, features], or [N, time, features] if `batch` is 0. states: N is the dimension before the last.
    lengths: [N]. others: the weights.
    """
    together = [value] + list(states) + ([lengths] if lengths is not None else []) + list(others)
    if any(each.tainted for each in together):
        return propagate(together)
    if any(other.has_rows or repeats(other) for other in others):
        return unsure("%s has weights that depend on the inputs" % at)
    if not value.has_rows:
        return unsure("%s runs over a constant" % at)
    if value.axis != batch:
        if value.axis == 1 - batch:
            return mixed("%s runs from row to row, as over time" % at)
        return unsure("%s has the rows among the features" % at)
    for state, axis in [(state, len(state.dims or ()) - 2) for state in states] + ([(lengths, 0)] if lengths else []):
        state_rows = as_rows(state)
        if state_rows is None or not state_rows.has_rows:
            size = (state.dims or (None,))[axis] if state.dims and axis < len(state.dims) else None
            if isinstance(size, int):
                return mixed("%s allows one number of rows only" % at)
            return unsure("%s has a state that is not followed" % at)
        if (state_rows.axis, state_rows.before, state_rows.after) != (axis, value.before, value.after):
            return unsure("%s has a state that is not followed" % at)
    return None


def batch_first(at: str, values: Sequence[Value], ranks: Sequence[Optional[int]]) -> List[Value]:
    """Return the results of an operator that treats each row independently, with the rows in the first dimension.

    ranks: of the results. Nothing is claimed about a result with the rank None.
    """
    if any(value.tainted for value in values):
        return [propagate(values) for _ in ranks]
    with_rows = [value for value in values if value.has_rows]
    if any(repeats(value) and not value.has_rows for value in values):
        return [unsure("%s takes values that are repeated for each row" % at) for _ in ranks]
    if not with_rows:
        return [constant() for _ in ranks]
    if any(value.axis != 0 or (value.before, value.after) != (1, 1) for value in with_rows):
        return [unsure("%s has the rows in an unusual dimension" % at) for _ in ranks]
    return [
        unsure("%s returns a tensor of unknown rank" % at)
        if rank is None
        else rows([sizes.ROWS] + [fresh() for _ in range(rank - 1)])
        for rank in ranks
    ]
