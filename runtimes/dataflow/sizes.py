"""Sizes of dimensions: integers, or products of an integer and symbols. One symbol is the number of rows."""

import itertools
from typing import Any, Iterable, NamedTuple, Optional, Tuple, Union


class Product(NamedTuple):
    """`factor` times all symbols. The symbols are sorted, and there is at least one."""

    factor: int
    symbols: Tuple[int, ...]


Size = Union[int, Product]

# Limits that no useful model exceeds. Sizes beyond them are not followed (OverflowError), so that a hostile file cannot
# make the analysis slow.
_MAX_FACTOR, _MAX_SYMBOLS = 1 << 63, 32
MAX_DIMENSIONS = 64

ROWS = Product(1, (0,))  # the number of rows of the batch
_numbers = itertools.count(1)


def fresh() -> Product:
    """Return a new symbol for an unknown size, which is the same for all requests of a batch."""
    return Product(1, (next(_numbers),))


def has_rows(size: Any) -> bool:
    """Return whether the size depends on the number of rows."""
    return isinstance(size, Product) and size.symbols[0] == 0


def times(*sizes: Size) -> Size:
    """Return the product. Raises OverflowError if it exceeds the limits."""
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
    """Return the quotient, or None if it may not be exact."""
    factor, symbols = size if isinstance(size, Product) else (size, ())
    divisor_factor, dropped = divisor if isinstance(divisor, Product) else (divisor, ())
    left = list(symbols)
    for symbol in dropped:
        if symbol not in left:
            return None
        left.remove(symbol)
    if not divisor_factor or factor % divisor_factor:
        return None
    return Product(factor // divisor_factor, tuple(left)) if left else factor // divisor_factor


def plus(one: Size, two: Size) -> Optional[Size]:
    """Return the sum, or None if it cannot be expressed as a Product."""
    first, second = (size if isinstance(size, Product) else (size, ()) for size in (one, two))
    if first[1] == second[1]:
        return times(first[0] + second[0], *(Product(1, (symbol,)) for symbol in first[1]))
    return two if one == 0 else one if two == 0 else None


def broadcast(sizes: Iterable[Size]) -> Optional[Size]:
    """Return the size that these broadcast to, or None if the number of rows meets a different size."""
    distinct = {size for size in sizes if size != 1}
    if len(distinct) < 2:
        return distinct.pop() if distinct else 1
    if any(has_rows(size) for size in distinct):
        return None
    integers = [size for size in distinct if isinstance(size, int)]
    return integers[0] if len(integers) == 1 else fresh()
