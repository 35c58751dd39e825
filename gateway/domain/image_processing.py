"""How images become an input, and outputs become labels; docs/images.md defines both."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np


class Preprocess(NamedTuple):
    """The table [preprocess] of model.toml, with a value for each channel in `mean` and `std`.

    input         "" for the only input
    size          height, width
    shorter_side  shorter side of the scaled image that "crop" is taken from; 0 for the smallest that covers `size`
    fill          the value that "pad" adds, 0 to 255
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
        """Return the shape of the input for this number of images."""
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
    """The table [postprocess] of model.toml. `output` is "" for the only output."""

    output: str = ""
    softmax: bool = False
    top_k: int = 5


@lru_cache(64)
def values(preprocess: Preprocess) -> "np.ndarray":
    """Return the input value for each of the 256 levels of each channel: FP64 [channels, 256]."""
    import numpy as np  # the supervisor needs it only if a model has [preprocess]

    levels = np.arange(256, dtype=np.float64)
    if preprocess.invert:
        levels = 255 - levels
    mean, std = np.array(preprocess.mean)[:, None], np.array(preprocess.std)[:, None]
    table: np.ndarray = (levels * preprocess.scale - mean) / std
    table.flags.writeable = False  # callers share the cached array
    return table


def preprocess_from_json(raw: Sequence[Any] | None) -> Preprocess | None:
    """Return the Preprocess that JSON wrote as a list, because it is a tuple."""
    if raw is None:
        return None
    return Preprocess._make([tuple(each) if isinstance(each, list) else each for each in raw])


def postprocess_from_json(raw: Sequence[Any] | None) -> Postprocess | None:
    return None if raw is None else Postprocess(*raw)
