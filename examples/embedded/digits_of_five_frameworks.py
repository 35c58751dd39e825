"""One program uses the same classifier from five frameworks, none of which it has installed.

    python examples/embedded/digits_of_five_frameworks.py [MODEL ...]

Needs nothing but modelport. The first run builds the environments of the models: name some to build fewer.
"""

import sys
import time
from pathlib import Path

import numpy as np

import modelport

ROOT = Path(__file__).parents[2]


def main() -> None:
    with np.load(ROOT / "examples/digits/heldout.npz") as file:
        images, labels = file["image"].astype(np.float32), file["label"]
    names = sys.argv[1:] or sorted(path.name for path in (ROOT / "model_repo").iterdir())
    for name in names:
        with modelport.load(str(ROOT / "model_repo" / name)) as model:
            started = time.perf_counter()
            parts = list(model.batches(images, rows=64, progress=sys.stderr.isatty()))
            seconds = time.perf_counter() - started
        digits = np.concatenate([part["scores"] for part in parts]).argmax(axis=1)
        print(f"{name:20} {np.mean(digits == labels):.1%} of {len(images)} images right, in {seconds * 1000:.0f} ms")


if __name__ == "__main__":
    main()
