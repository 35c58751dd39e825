"""The operators that `builder.py` puts in the place of writes."""

from typing import Any, List

from runtimes.dataflow.values import Value, as_rows, constant, propagate, repeats, rows, unsure
from runtimes.dataflow.walk import Call

from ..operators import AS_ROWS, OBJECT, REPLACED, STORED, UNCLEAR, WRITTEN, Items, rule


@rule(OBJECT)
def unknown_object(call: Call) -> Value:
    """A constant that is no tensor, number or text."""
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
    """What is about to be written to by rows."""
    return _even(call[0])


def _even(value: Any) -> Any:
    if isinstance(value, Items):
        return Items(tuple(map(_even, value.items)))
    found = as_rows(value)
    if found is None or found.counts_rows:
        return unsure("what is repeated for each row is written over", [value])
    return found._replace(contents=None)


@rule(WRITTEN)
def written(call: Call) -> Any:
    """A tensor after a part of it, that was `seen`, became `new`."""
    whole, seen, new = call[0], call[1], call[2]
    if any(value.tainted for value in (whole, seen, new)):
        return propagate([whole, seen, new], whole.dims)
    if not (whole.has_rows or repeats(whole)):
        if new.has_rows or repeats(new) or seen.has_rows or repeats(seen):
            return unsure("rows are written to a constant", dims=whole.dims)
        return whole if isinstance(whole, Items) else constant(whole.dims)
    return whole if _alike(seen, new) else unsure("what is written is laid out in another way", dims=whole.dims)


@rule(REPLACED)
def replaced(call: Call) -> Value:
    """A tensor that was written to as a whole."""
    old, new = call[0], call[1]
    if old.tainted or new.tainted:
        return propagate([old, new], old.dims)
    if not (old.has_rows or new.has_rows or repeats(old) or repeats(new)):
        return new
    return new if _alike(old, new) else unsure("what is written is laid out in another way", dims=old.dims)


def _alike(one: Any, two: Any) -> bool:
    if isinstance(one, Items) or isinstance(two, Items):
        pairs = zip(getattr(one, "items", ()), getattr(two, "items", ()))
        both = isinstance(one, Items) and isinstance(two, Items) and len(one.items) == len(two.items)
        return both and all(old == new or _alike(old, new) for old, new in pairs)
    old, new = as_rows(one), as_rows(two)
    if old is None or new is None or old.axis is None or old.rank != new.rank or old.dims is None or new.dims is None:
        return False
    same = (old.axis, old.before, old.after) == (new.axis, new.before, new.after)
    return same and rows(new.dims, new.axis or 0, new.before, new.after).tainted is False
