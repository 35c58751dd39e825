"""The images of all examples: scikit-learn's 1797 handwritten digits, 8x8, values 0 to 16.

A fixed seed selects a fifth of each class to be held out. `python data.py` also writes the held-out images to
heldout.npz (image: FP32 [355, 64], label: INT64 [355]), so that the models can be checked without scikit-learn.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1] / "model_repo"


class Digits(NamedTuple):
    train_image: np.ndarray
    train_label: np.ndarray
    heldout_image: np.ndarray
    heldout_label: np.ndarray


def load() -> Digits:
    from sklearn.datasets import load_digits

    image, label = load_digits(return_X_y=True)
    image, label = image.astype(np.float32), label.astype(np.int64)
    rng = np.random.RandomState(2024)  # its stream is the same in every numpy
    heldout = np.zeros(len(label), bool)
    for digit in range(10):
        places = rng.permutation(np.flatnonzero(label == digit))
        heldout[places[: len(places) // 5]] = True
    return Digits(image[~heldout], label[~heldout], image[heldout], label[heldout])


def batches(count: int, size: int, epochs: int, seed: int = 0):
    """Shuffled index arrays, epoch after epoch; the last ones of an epoch may be fewer."""
    rng = np.random.RandomState(seed)
    for _ in range(epochs):
        order = rng.permutation(count)
        for start in range(0, count, size):
            yield order[start : start + size]


def version_folder(model: str) -> Path:
    folder = REPOSITORY / model / "1"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def record(model: str, scores: np.ndarray) -> None:
    """Print the accuracy on the held-out images and write it to accuracy.json."""
    digits = load()
    accuracy = float((scores.argmax(axis=1) == digits.heldout_label).mean())
    print(f"{model}: {accuracy:.2%} of {len(scores)} held-out images are right")
    path = HERE / "accuracy.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known[model] = accuracy
    path.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    digits = load()
    np.savez_compressed(HERE / "heldout.npz", image=digits.heldout_image, label=digits.heldout_label)
