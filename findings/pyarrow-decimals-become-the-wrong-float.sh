#!/usr/bin/env bash
# pyarrow 26.0.1: a cast of a decimal to float64 does not return the nearest float. It multiplies the integer by a power
# of ten that is itself rounded, so that amounts of money of ten digits are off by a bit in one of eight cases.
#
# Seen: the decimal128(10, 2) -9398597.79 becomes -9398597.790000001, while float(Decimal), and Arrow's own cast of the
# text, return -9398597.79.
# Fails if all of these decimals become the nearest float.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import random
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

random.seed(1)
values = [Decimal("-9398597.79"), *(Decimal(random.randrange(10**9, 10**10)).scaleb(-2) for _ in range(10_000))]
column = pa.array(values, pa.decimal128(10, 2))
nearest = [float(each) for each in values]
cast = pc.cast(column, pa.float64()).to_pylist()
through_text = pc.cast(pc.cast(column, pa.string()), pa.float64()).to_pylist()
wrong = sum(one != other for one, other in zip(cast, nearest))
print(f"{values[0]} becomes {cast[0]!r}; {wrong} of {len(values)} become another float than the nearest")
assert through_text == nearest, "the cast of text is not exact either"
assert cast[0] != nearest[0] and wrong, "decimals become the nearest float"
PYTHON
