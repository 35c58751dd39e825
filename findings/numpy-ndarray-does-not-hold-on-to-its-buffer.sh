#!/usr/bin/env bash
# numpy 2.4.6: np.ndarray(shape, dtype, buffer) gives the buffer back at once and keeps only a reference to the object
# behind it, while np.frombuffer and np.asarray hold the buffer as long as the array lives. So a bytearray can be
# resized, and an mmap closed, under an array made by the first, where the others raise BufferError. A memoryview as
# the argument makes no difference: it is not the array's base, but skipped. Servers that put arrays over shared
# memory or receive buffers rely on that error to find arrays that are still in use.
#
# Seen: resizing and closing succeed under np.ndarray(..., buffer=...), and raise BufferError under np.frombuffer. The
# arrays are not read afterwards.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import mmap

import numpy as np

WAYS = {
    "np.frombuffer": lambda buffer: np.frombuffer(buffer, np.uint8),
    "np.asarray of a view": lambda buffer: np.asarray(memoryview(buffer)),
    "np.ndarray": lambda buffer: np.ndarray(len(buffer), np.uint8, buffer),
    "np.ndarray of a view": lambda buffer: np.ndarray(len(buffer), np.uint8, memoryview(buffer)),
}
print("numpy", np.__version__)
for way, make in WAYS.items():
    resizable, mapped = bytearray(8), mmap.mmap(-1, 4096)
    arrays, allowed = [make(resizable), make(mapped)], []
    for name, change in (("resize", lambda: resizable.extend(bytes(1 << 16))), ("close", mapped.close)):
        try:
            change()
            allowed.append(name)
        except BufferError:
            pass
    print(f"{way}: base {type(arrays[0].base).__name__}, allows {allowed or 'neither'}")
    assert allowed == (["resize", "close"] if "ndarray" in way else []), "numpy's behavior has changed"
PYTHON
