#!/usr/bin/env bash
# ml_dtypes 0.6.0: array.astype of a float64 array rounds to float32 first, and then to the small type. A number just
# beyond the middle of two values becomes the middle, which is rounded to even: the farther of the two values. For
# float8, the type's own constructor rounds once, so that the same number has two results.
#
# Seen: float8_e4m3fn(1.0625 + 2**-40) is 1.125, and np.array([1.0625 + 2**-40]).astype(float8_e4m3fn) is [1];
# for bfloat16, 1 + 2**-8 + 2**-40 becomes 1 in an array, although 1.0078125 is nearer.
# Fails if arrays are rounded to the nearest value.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ml_dtypes==0.6.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
from fractions import Fraction

import ml_dtypes
import numpy as np

for dtype, number, low, high in (
    (ml_dtypes.float8_e4m3fn, 1.0625 + 2.0**-40, 1.0, 1.125),
    (ml_dtypes.float8_e5m2, 1.125 + 2.0**-40, 1.0, 1.25),
    (ml_dtypes.bfloat16, 1 + 2.0**-8 + 2.0**-40, 1.0, 1.0078125),
):
    nearest = min(low, high, key=lambda each: abs(Fraction(each) - Fraction(number)))
    (found,) = np.array([number]).astype(dtype).tolist()
    print(f"{dtype.__name__}: {number!r} in an array is {found}, alone {float(dtype(number))}; the nearest is {nearest}")
    assert found != nearest, "arrays are rounded to the nearest value"
PYTHON
