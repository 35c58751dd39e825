"""What is known of a tensor while a graph is walked."""

from typing import Any, Iterable, NamedTuple, Optional, Sequence, Tuple

from runtimes.dataflow.sizes import ROWS, Size, fresh, has_rows, over, times

MAX_CONTENTS = 64  # elements of a tensor whose contents are followed: shapes, axes, permutations
_MAX_REASONS = 4  # of one kind that a tensor carries on; the first ones say enough
_NAME_LENGTH = 60


class Value(NamedTuple):
    """One tensor. It is in one of three states.

    - Constant: `axis` is None and there are no reasons. Nothing in it depends on the rows. A dimension which has
      the number of rows in its size holds the same values all along.
    - Rows: `axis` is the dimension along which they lie. Its size is before * rows * after, in that order, the
      slices of row i depend on row i of the inputs alone, and the size of no other dimension depends on the rows.
    - With reasons, why rows may influence each other (`mixes`) or why that is not known (`unknown`).

    dims     sizes; None where not even the rank is known
    contents the elements in row-major order, where they are few and wanted: numbers, sizes, or None for a number
             that is not known but the same for all requests. Only a constant has them
    """

    dims: Optional[Tuple[Size, ...]] = None
    axis: Optional[int] = None
    before: Size = 1
    after: Size = 1
    contents: Optional[Tuple[Any, ...]] = None
    mixes: Tuple[str, ...] = ()
    unknown: Tuple[str, ...] = ()

    @property
    def tainted(self) -> bool:
        return bool(self.mixes or self.unknown)

    @property
    def has_rows(self) -> bool:
        return self.axis is not None

    @property
    def counts_rows(self) -> bool:
        """Whether its contents depend on how many rows there are."""
        return self.contents is not None and any(has_rows(element) for element in self.contents)

    @property
    def rank(self) -> Optional[int]:
        return None if self.dims is None else len(self.dims)


def constant(dims: Optional[Sequence[Size]] = None, contents: Optional[Sequence[Any]] = None) -> Value:
    if contents is not None and len(contents) > MAX_CONTENTS:
        contents = None
    return Value(None if dims is None else tuple(dims), contents=None if contents is None else tuple(contents))


def rows(dims: Sequence[Size], axis: int = 0, before: Size = 1, after: Size = 1) -> Value:
    """Rows along one dimension; that no other one depends on their number is checked here."""
    if any(has_rows(size) for place, size in enumerate(dims) if place != axis):
        return Value(tuple(dims), unknown=("a dimension beside the batch depends on the number of rows",))
    return Value(tuple(dims), axis, before, after)


def mixed(reason: str, values: Iterable[Value] = (), dims: Optional[Sequence[Size]] = None) -> Value:
    return _tainted((reason,), (), values, dims)


def unsure(reason: str, values: Iterable[Value] = (), dims: Optional[Sequence[Size]] = None) -> Value:
    return _tainted((), (reason,), values, dims)


def propagate(values: Iterable[Value], dims: Optional[Sequence[Size]] = None) -> Value:
    """What depends on these, of which at least one is tainted."""
    return _tainted((), (), values, dims)


def _tainted(
    mixes: Tuple[str, ...], unknown: Tuple[str, ...], values: Iterable[Value], dims: Optional[Sequence[Size]]
) -> Value:
    for value in values:
        if value.mixes and value.mixes != mixes:
            mixes = tuple(dict.fromkeys(mixes + value.mixes))[:_MAX_REASONS]
        if value.unknown and value.unknown != unknown:
            unknown = tuple(dict.fromkeys(unknown + value.unknown))[:_MAX_REASONS]
    if not (mixes or unknown):  # a mistake of a rule's never makes a constant of what it could not follow
        unknown = ("an operator is not followed",)
    return Value(None if dims is None else tuple(dims), mixes=mixes, unknown=unknown)


def as_rows(value: Value) -> Optional[Value]:
    """A constant that is repeated for each row, as rows; others as they are. None where that cannot be said."""
    if value.tainted or value.has_rows or value.dims is None:
        return value
    places = [place for place, size in enumerate(value.dims) if has_rows(size)]
    if not places:
        return value
    after = over(value.dims[places[0]], ROWS)
    if len(places) > 1 or after is None or has_rows(after):
        return None
    return Value(value.dims, places[0], 1, after)


def join(at: str, one: Value, two: Value) -> Value:
    """Either of two values, and a constant chooses which."""
    if one == two:
        return one
    if one.tainted or two.tainted:
        return propagate((one, two))
    if one.counts_rows or two.counts_rows:
        return unsure("%s gives the number of rows or something else" % at)
    if one.dims is None or two.dims is None or len(one.dims) != len(two.dims):
        if not (one.has_rows or two.has_rows or repeats(one) or repeats(two)):
            return constant()
        return unsure("%s gives tensors of different ranks" % at)
    if one.has_rows != two.has_rows:
        one, two = as_rows(one) or one, as_rows(two) or two
    if (one.axis, one.before, one.after) != (two.axis, two.before, two.after):
        return unsure("%s gives tensors with the rows in different dimensions" % at)
    dims = []
    for size, other in zip(one.dims, two.dims):
        if size != other and (has_rows(size) or has_rows(other)):
            return unsure("%s gives tensors with different numbers of rows" % at)
        dims.append(size if size == other else fresh())
    return Value(tuple(dims), one.axis, one.before, one.after)


def repeats(value: Value) -> bool:
    """Whether a constant is repeated by the number of rows, or counts them."""
    return value.counts_rows or (value.dims is not None and any(has_rows(size) for size in value.dims))


def without_contents(at: str, value: Value) -> Value:
    """The same tensor, of whose contents no more is known. They may not count the rows then."""
    return unsure("%s computes with the number of rows" % at) if value.counts_rows else value._replace(contents=None)


def total(dims: Sequence[Size]) -> Size:
    return times(*dims)


def operator_label(operator: str, name: str) -> str:
    """An operator as the reasons name it."""
    text = "".join(character if character.isprintable() else "?" for character in name)
    short = text if len(text) <= _NAME_LENGTH else "…" + text[-_NAME_LENGTH:]
    return "%s '%s'" % (operator, short) if short else operator
