"""Sizes of dimensions: integers, or products of an integer and symbols, of which one is the number of rows."""

import itertools
from typing import Any, Iterable, NamedTuple, Optional, Tuple, Union


class Product(NamedTuple):
    """`factor` times every symbol in `symbols`, which are sorted; at least one."""

    factor: int
    symbols: Tuple[int, ...]


Size = Union[int, Product]

# Beyond these no model of use goes; what does is not followed (OverflowError), so that no file makes reading long.
_MAX_FACTOR, _MAX_SYMBOLS = 1 << 63, 32
MAX_DIMENSIONS = 64

ROWS = Product(1, (0,))  # the number of rows of the batch
_numbers = itertools.count(1)


def fresh() -> Product:
    """A size that is not known, and is the same for every request of a batch."""
    return Product(1, (next(_numbers),))


def has_rows(size: Any) -> bool:
    """Whether this depends on the number of rows."""
    return isinstance(size, Product) and size.symbols[0] == 0


def times(*sizes: Size) -> Size:
    factor, symbols = 1, ()  # type: int, Tuple[int, ...]
    for size in sizes:
        if isinstance(size, Product):
            factor, symbols = factor * size.factor, symbols + size.symbols
        else:
            factor *= int(size)
    if abs(factor) >= _MAX_FACTOR or len(symbols) > _MAX_SYMBOLS:
        raise OverflowError("a size is too large to be followed")
    return Product(factor, tuple(sorted(symbols))) if symbols and factor else factor


def over(size: Size, divisor: Size) -> Optional[Size]:
    """The exact quotient; None where it is not known to be one."""
    factor, symbols = size if isinstance(size, Product) else (size, ())
    by, dropped = divisor if isinstance(divisor, Product) else (divisor, ())
    left = list(symbols)
    for symbol in dropped:
        if symbol not in left:
            return None
        left.remove(symbol)
    if not by or factor % by:
        return None
    return Product(factor // by, tuple(left)) if left else factor // by


def plus(one: Size, two: Size) -> Optional[Size]:
    """The sum; None where it is no product of symbols."""
    first, second = (size if isinstance(size, Product) else (size, ()) for size in (one, two))
    if first[1] == second[1]:
        return times(first[0] + second[0], *(Product(1, (symbol,)) for symbol in first[1]))
    return two if one == 0 else one if two == 0 else None


def broadcast(sizes: Iterable[Size]) -> Optional[Size]:
    """The size of several that are broadcast against each other; None where the number of rows meets another."""
    distinct = {size for size in sizes if size != 1}
    if len(distinct) < 2:
        return distinct.pop() if distinct else 1
    if any(has_rows(size) for size in distinct):
        return None
    integers = [size for size in distinct if isinstance(size, int)]
    return integers[0] if len(integers) == 1 else fresh()
