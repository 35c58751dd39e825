"""What passes between layers."""

from typing import NamedTuple, Sequence, Tuple


class Fold(NamedTuple):
    """Rows that are none of a request's: its time steps as rows ("time"), or inputs stacked upon each other ("stack").

    count  how many rows stand for one; -1 where only a request tells
    told   "time": the tensor that holds how many rows there are, and that count, [2] int64, where it is -1
    """

    kind: str
    count: int
    told: str = ""


class Value(NamedTuple):
    """A tensor of activations: rows, then `sizes` as DL4J lays them out; -1 for a size that only a request tells.

    grown  about how many times larger what a request tells has become: rows, and the sizes that are -1
    """

    name: str
    sizes: Tuple[int, ...]
    folds: Tuple[Fold, ...] = ()
    grown: int = 1


def same_rows(values: Sequence[Value]) -> bool:
    """Whether the rows of all stand for the same; of time steps that only a request tells, a request shows it."""
    return len({tuple((fold.kind, fold.count) for fold in value.folds) for value in values}) == 1
