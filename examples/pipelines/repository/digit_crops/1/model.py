"""Cuts the found digits out of the page, in reading order, as the classifier knows them: 8x8, from 0 to 16.

The digits that the classifier was trained with are as high as their image and in its middle, so crops are, too.
"""

import numpy as np

SIDE = 8
# The ink of a digit is brighter than this; what is darker is the blur around it.
INK = 0.25
# Digits whose centers are less than this apart in height are on the same line.
LINE = 16


class Model:
    def predict(
        self, page: "FP32[128, 128]", boxes: "INT64[-1, 4]"
    ) -> {"image": "FP32[-1, 64]", "box": "INT64[-1, 4]"}:
        found = [box for line in lines(boxes) for box in line]
        crops = [crop(page, box) for box in found]
        return {
            "image": np.reshape(crops, (-1, SIDE * SIDE)).astype(np.float32),
            "box": np.reshape(found, (-1, 4)).astype(np.int64),
        }


def lines(boxes):
    """Return the boxes [top, left, bottom, right] line by line, each from left to right."""
    found = []
    for box in sorted(boxes.tolist()):
        if found and box[0] - found[-1][-1][0] < LINE:
            found[-1].append(box)
        else:
            found.append([box])
    return [sorted(line, key=lambda box: box[1]) for line in found]


def crop(page, box):
    top, left, bottom, right = box
    window = page[top:bottom, left:right]
    rows, columns = (np.flatnonzero((window > INK).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros((SIDE, SIDE), np.float32)
    height, middle = rows[-1] + 1 - rows[0], left + (columns[0] + columns[-1] + 1) / 2
    # Each pixel of the crop is the mean of a square of the page.
    edges_y = top + rows[0] + np.linspace(0, height, SIDE + 1)
    edges_x = middle + np.linspace(-height / 2, height / 2, SIDE + 1)
    return 16 * mean(mean(page, edges_y, axis=0), edges_x, axis=1)


def mean(values, edges, axis):
    """Return the mean of the values between neighboring edges, along an axis; there is no ink beyond the page."""
    total = np.concatenate([np.zeros_like(values.take([0], axis)), values.cumsum(axis)], axis)
    positions = np.arange(total.shape[axis])
    at = np.apply_along_axis(lambda line: np.interp(edges, positions, line), axis, total)
    return np.diff(at, axis=axis) / (edges[1] - edges[0])
