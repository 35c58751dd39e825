"""Numbers of bytes as settings and model.toml write them."""

import re
from typing import Any


def read_bytes(value: Any) -> Any:
    """Return the number of bytes that a number, or a text such as "2GiB", stands for. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?) ?([KMGT]i?B|B|)", value) if isinstance(value, str) else None
    if match is None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError('it must be a number of bytes, or text such as "512MiB" or "2GiB"')
    if match is None:
        return value
    number, unit = match.groups()
    power = " KMGT".index(unit[0]) if len(unit) > 1 else 0
    return int(float(number) * (1024 if "i" in unit else 1000) ** power)
