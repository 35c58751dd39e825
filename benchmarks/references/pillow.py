"""Decodes and scales an image with Pillow, in one thread per core, and does nothing else.

    python -m benchmarks.references.pillow FILE SIDE

For each number of times on standard input, it prints the CPU seconds and the elapsed seconds that they took.
"""

import io
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from PIL import Image


def main() -> None:
    path, side = sys.argv[1], int(sys.argv[2])
    with open(path, "rb") as file:
        data = file.read()

    def decode(_: int) -> None:
        Image.open(io.BytesIO(data)).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for line in sys.stdin:
            cpu, clock = time.process_time(), time.perf_counter()
            list(pool.map(decode, range(int(line))))
            print(time.process_time() - cpu, time.perf_counter() - clock, flush=True)


if __name__ == "__main__":
    main()
