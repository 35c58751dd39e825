"""The tensors that pass between layers."""

from typing import NamedTuple, Sequence, Tuple


class Fold(NamedTuple):
    """How a dimension was merged into the rows.

    kind   "time": time steps became rows; "stack": inputs were stacked upon each other
    count  how many rows stem from one row of the request; -1 if dynamic
    dims   name of a tensor [2], INT64, with the numbers of rows and of steps, if the kind is "time" and `count` is -1
    """

    kind: str
    count: int
    dims: str = ""


class Value(NamedTuple):
    """A tensor of activations. Its shape is the rows, then `sizes` in DL4J's layout; -1 is a dynamic size.

    growth  the approximate factor by which the layers so far have enlarged the request's dynamic sizes and its rows
    """

    name: str
    sizes: Tuple[int, ...]
    folds: Tuple[Fold, ...] = ()
    growth: int = 1


def same_rows(values: Sequence[Value]) -> bool:
    """Whether the rows of all values correspond. Dynamic numbers of time steps are only compared at run time."""
    return len({tuple((fold.kind, fold.count) for fold in value.folds) for value in values}) == 1
