"""Draws page.png: held-out digits of examples/digits, scattered over a page. page.json has what they are.

pip install numpy pillow; python make_page.py
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
PAGE, DIGIT, CELL = 128, 24, 32


def draw(images: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """Return a page of 128x128 gray values, 255 for paper, and its digits, line by line."""
    rng = np.random.default_rng(seed)
    page, text = np.zeros((PAGE, PAGE)), ""
    for top in range(0, PAGE, CELL):
        for left in range(0, PAGE, CELL):
            if rng.random() < 0.4:
                continue
            index = int(rng.integers(len(images)))
            digit = np.kron(images[index].reshape(8, 8) / 16, np.ones((DIGIT // 8, DIGIT // 8)))
            y, x = top + int(rng.integers(3, 6)), left + int(rng.integers(1, 8))
            page[y : y + DIGIT, x : x + DIGIT] += digit
            text += str(labels[index])
    return np.round(255 * (1 - page.clip(0, 1))).astype(np.uint8), text


if __name__ == "__main__":
    with np.load(HERE.parent / "digits" / "heldout.npz") as file:
        pixels, digits = draw(file["image"], file["label"], seed=4)
    Image.fromarray(pixels).save(HERE / "page.png", optimize=True)
    (HERE / "page.json").write_text(json.dumps({"digits": digits}) + "\n")
    print(digits)
