"""What the analysis knows about a tensor."""

from typing import Any, Iterable, NamedTuple, Optional, Sequence, Tuple

from runtimes.dataflow.sizes import ROWS, Size, fresh, has_rows, over, times

# Elements of a tensor whose contents are followed: enough for shapes, axes and permutations, since no tensor has more
# dimensions. A higher limit costs time for each constant.
MAX_CONTENTS = 64
_MAX_REASONS = 4  # of each kind that a value carries; more would only make the log longer
_NAME_LENGTH = 60  # of an operator's name in a reason


class Value(NamedTuple):
    """A tensor, which is in one of three states.

    - Constant: `axis` is None, and there are no reasons. Its values do not depend on the rows. If the size of a
      dimension depends on the number of rows, the values are the same all along that dimension.
    - Rows: `axis` is the dimension that the rows are in. Its size is before * rows * after, in that order. The slices
      of row i depend only on row i of the inputs, and the size of no other dimension depends on the number of rows.
    - Tainted: it has reasons why rows influence each other (`mixes`), or why that is unknown (`unknown`).

    dims      sizes; None if the rank is unknown
    contents  the elements in row-major order, if they are few and useful: numbers, sizes, or None for a number that is
              unknown but the same for all requests. Only constants have contents
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
        """Whether the contents depend on the number of rows."""
        return self.contents is not None and any(has_rows(element) for element in self.contents)

    @property
    def rank(self) -> Optional[int]:
        return None if self.dims is None else len(self.dims)


def constant(dims: Optional[Sequence[Size]] = None, contents: Optional[Sequence[Any]] = None) -> Value:
    """Return a constant. Contents with too many elements are dropped."""
    if contents is not None and len(contents) > MAX_CONTENTS:
        contents = None
    return Value(None if dims is None else tuple(dims), contents=None if contents is None else tuple(contents))


def rows(dims: Sequence[Size], axis: int = 0, before: Size = 1, after: Size = 1) -> Value:
    """Return a value with rows along `axis`. It is tainted if another dimension depends on the number of rows."""
    if any(has_rows(size) for index, size in enumerate(dims) if index != axis):
        return Value(tuple(dims), unknown=("another dimension depends on the number of rows",))
    return Value(tuple(dims), axis, before, after)


def mixed(reason: str, values: Iterable[Value] = (), dims: Optional[Sequence[Size]] = None) -> Value:
    """Return a value whose rows influence each other for this reason, and for those that `values` carry."""
    return _tainted((reason,), (), values, dims)


def unsure(reason: str, values: Iterable[Value] = (), dims: Optional[Sequence[Size]] = None) -> Value:
    """Return a value that could not be followed for this reason, and for those that `values` carry."""
    return _tainted((), (reason,), values, dims)


def propagate(values: Iterable[Value], dims: Optional[Sequence[Size]] = None) -> Value:
    """Return a value that depends on these, at least one of which is tainted."""
    return _tainted((), (), values, dims)


def _tainted(
    mixes: Tuple[str, ...], unknown: Tuple[str, ...], values: Iterable[Value], dims: Optional[Sequence[Size]]
) -> Value:
    for value in values:
        if value.mixes and value.mixes != mixes:
            mixes = tuple(dict.fromkeys(mixes + value.mixes))[:_MAX_REASONS]
        if value.unknown and value.unknown != unknown:
            unknown = tuple(dict.fromkeys(unknown + value.unknown))[:_MAX_REASONS]
    if not (mixes or unknown):  # so that a mistake in a rule cannot turn a value that was not followed into a constant
        unknown = ("an operator is not followed",)
    return Value(None if dims is None else tuple(dims), mixes=mixes, unknown=unknown)


def as_rows(value: Value) -> Optional[Value]:
    """Return a constant that is repeated for each row as a value with rows; other values as they are.

    Returns None if the constant is repeated in a way that cannot be expressed.
    """
    if value.tainted or value.has_rows or value.dims is None:
        return value
    axes = [axis for axis, size in enumerate(value.dims) if has_rows(size)]
    if not axes:
        return value
    after = over(value.dims[axes[0]], ROWS)
    if len(axes) > 1 or after is None or has_rows(after):
        return None
    return Value(value.dims, axes[0], 1, after)


def join(at: str, one: Value, two: Value) -> Value:
    """Return a value that holds for both, as after a branch on a condition that is the same for all rows."""
    if one == two:
        return one
    if one.tainted or two.tainted:
        return propagate((one, two))
    if one.counts_rows or two.counts_rows:
        return unsure("%s returns the number of rows or something else" % at)
    if one.dims is None or two.dims is None or len(one.dims) != len(two.dims):
        if not (one.has_rows or two.has_rows or repeats(one) or repeats(two)):
            return constant()
        return unsure("%s returns tensors of different ranks" % at)
    if one.has_rows != two.has_rows:
        one, two = as_rows(one) or one, as_rows(two) or two
    if (one.axis, one.before, one.after) != (two.axis, two.before, two.after):
        return unsure("%s returns tensors with the rows in different dimensions" % at)
    assert one.dims is not None
    assert two.dims is not None
    dims = []
    for size, other in zip(one.dims, two.dims):
        if size != other and (has_rows(size) or has_rows(other)):
            return unsure("%s returns tensors with different numbers of rows" % at)
        dims.append(size if size == other else fresh())
    return Value(tuple(dims), one.axis, one.before, one.after)


def repeats(value: Value) -> bool:
    """Return whether a constant is repeated for each row, or contains their number."""
    return value.counts_rows or (value.dims is not None and any(has_rows(size) for size in value.dims))


def without_contents(at: str, value: Value) -> Value:
    """Return the tensor with its contents unknown, which is tainted if they depend on the number of rows."""
    return unsure("%s computes with the number of rows" % at) if value.counts_rows else value._replace(contents=None)


def total(dims: Sequence[Size]) -> Size:
    return times(*dims)


def operator_label(operator: str, name: str) -> str:
    """Return an operator's type and name for a reason, without unprintable characters."""
    text = "".join(character if character.isprintable() else "?" for character in name)
    shown = text if len(text) <= _NAME_LENGTH else "…" + text[-_NAME_LENGTH:]
    return "%s '%s'" % (operator, shown) if shown else operator
