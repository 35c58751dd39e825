"""The operators that `builder.py` inserts in place of writes."""

from typing import Any, List

from runtimes.dataflow.values import Value, as_rows, constant, propagate, repeats, rows, unsure
from runtimes.dataflow.walk import Call

from ..operators import AS_ROWS, OBJECT, REPLACED, STORED, UNCLEAR, WRITTEN, Items, rule


@rule(OBJECT)
def unknown_object(call: Call) -> Value:
    """Return a constant for a value that is not a tensor, number or string."""
    return constant()


@rule(UNCLEAR)
def unclear(call: Call) -> List[Value]:
    call.walk.unclear.append(call.attribute("why"))  # type: ignore[attr-defined]
    return []


@rule(STORED)
def stored(call: Call) -> List[Value]:
    call.walk.writes.append(call.attribute("why"))
    return []


@rule(AS_ROWS)
def even(call: Call) -> Any:
    """Convert a tensor that is about to be written to: if it is repeated for each row, it gets rows."""
    return _with_rows(call[0])


def _with_rows(value: Any) -> Any:
    if isinstance(value, Items):
        return Items(tuple(map(_with_rows, value.items)))
    found = as_rows(value)
    if found is None or found.counts_rows:
        return unsure("a constant that is repeated for each row is overwritten", [value])
    return found._replace(contents=None)


@rule(WRITTEN)
def written(call: Call) -> Any:
    """Return a tensor after a part of it, `seen`, was replaced by `new`."""
    whole, seen, new = call[0], call[1], call[2]
    if any(value.tainted for value in (whole, seen, new)):
        return propagate([whole, seen, new], whole.dims)
    if not (whole.has_rows or repeats(whole)):
        if new.has_rows or repeats(new) or seen.has_rows or repeats(seen):
            return unsure("rows are written to a constant", dims=whole.dims)
        return whole if isinstance(whole, Items) else constant(whole.dims)
    return whole if _same_layout(seen, new) else unsure("the written values have a different layout", dims=whole.dims)


@rule(REPLACED)
def replaced(call: Call) -> Value:
    """Return a tensor after all of it was overwritten."""
    old, new = call[0], call[1]
    if old.tainted or new.tainted:
        return propagate([old, new], old.dims)
    if not (old.has_rows or new.has_rows or repeats(old) or repeats(new)):
        return new
    return new if _same_layout(old, new) else unsure("the written values have a different layout", dims=old.dims)


def _same_layout(one: Any, two: Any) -> bool:
    if isinstance(one, Items) or isinstance(two, Items):
        pairs = zip(getattr(one, "items", ()), getattr(two, "items", ()))
        both = isinstance(one, Items) and isinstance(two, Items) and len(one.items) == len(two.items)
        return both and all(old == new or _same_layout(old, new) for old, new in pairs)
    old, new = as_rows(one), as_rows(two)
    if old is None or new is None or old.axis is None or old.rank != new.rank or old.dims is None or new.dims is None:
        return False
    same = (old.axis, old.before, old.after) == (new.axis, new.before, new.after)
    return same and rows(new.dims, new.axis or 0, new.before, new.after).tainted is False
