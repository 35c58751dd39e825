"""How images become an input, and outputs labels, as the supervisor tells the fronts. docs/images.md defines it."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np


class Preprocess(NamedTuple):
    """model.toml's [preprocess], settled: `mean` and `std` have a value for each channel.

    input         "" for the only one
    size          height, width
    shorter_side  of the scaled image that "crop" is cut from; 0: as small as covers `size`
    fill          0 to 255, what "pad" adds
    """

    size: tuple[int, int]
    input: str = ""
    resize: str = "stretch"
    shorter_side: int = 0
    fill: int = 0
    interpolation: str = "bilinear"
    color: str = "RGB"
    invert: bool = False
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    layout: str = "NCHW"

    @property
    def channels(self) -> int:
        return len(self.mean)

    def shape(self, images: int) -> tuple[int, ...]:
        """Of the input for so many images."""
        height, width = self.size
        match self.layout:
            case "NCHW":
                return images, self.channels, height, width
            case "NHWC":
                return images, height, width, self.channels
            case "NHW":
                return images, height, width
        return images, height * width * self.channels


class Postprocess(NamedTuple):
    """model.toml's [postprocess]. output: "" for the only one."""

    output: str = ""
    softmax: bool = False
    top_k: int = 5


@lru_cache(64)
def values(preprocess: Preprocess) -> np.ndarray:
    """What each of the 256 levels of a channel becomes: FP64 [channels, 256]."""
    levels = np.arange(256, dtype=np.float64)
    if preprocess.invert:
        levels = 255 - levels
    mean, std = np.array(preprocess.mean)[:, None], np.array(preprocess.std)[:, None]
    made: np.ndarray = (levels * preprocess.scale - mean) / std
    made.flags.writeable = False
    return made


def preprocess_from_json(raw: Sequence[Any] | None) -> Preprocess | None:
    """The other way needs nothing: JSON writes the tuple as a list."""
    if raw is None:
        return None
    return Preprocess._make([tuple(each) if isinstance(each, list) else each for each in raw])


def postprocess_from_json(raw: Sequence[Any] | None) -> Postprocess | None:
    return None if raw is None else Postprocess(*raw)
