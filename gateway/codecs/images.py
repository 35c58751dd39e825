"""Image files -> the tensor of an input, as docs/images.md defines it: the only place where pixels are computed.

Everything about a file is bounded before it is believed: its format, how many pixels it has, and how
often its decoder may ask for more bytes. Only headers and pixels are read; no other metadata but
the orientation. Called in threads, where Pillow lets others run while it decodes and scales.
"""

import io
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from math import prod
from threading import Semaphore
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, WebPImagePlugin

from gateway.codecs.media_types import PNG, is_image
from gateway.domain.image_processing import Preprocess, values
from gateway.errors import InvalidRequest, TooLarge
from runtimes.contract import DATATYPES, kind_of, numpy_dtype
from runtimes.tensors import Tensor, from_array

_T = TypeVar("_T")

# Pillow knows the others without being asked; it would import all it has to look for this one.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", WebPImagePlugin.WebPImageFile.format)
_TOLD = "JPEG, PNG, WebP, BMP or GIF"
# What Pillow takes for a pixel, whatever the file has.
_PIXEL_BYTES = 4
# Decoding takes a few copies of an image: of large ones, few at a time.
_LARGE_PIXELS = 1 << 20
_LARGE = Semaphore(2)
# Pillow reads headers piece by piece, in Python: far more pieces than any camera or editor writes.
_HEADER_READS = 1000
_BYTES_A_READ = 256
# The scans of a progressive JPEG are decoded one over the other; encoders write about ten.
_MAX_SCANS = 100
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_START, _END, _SCAN, _TEMPORARY = b"\xd8", b"\xd9", b"\xda", b"\x01"
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class File(NamedTuple):
    """name: what its sentences call it, such as "the image"."""

    name: str
    data: bytes


def image_tensor(files: Sequence[File], preprocess: Preprocess, name: str, datatype: str, most_bytes: int) -> Tensor:
    """One row for each file, in order. Raises InvalidRequest.

    Raises TooLarge where the files, decoded, or the tensor would take more than most_bytes.
    """
    shape = preprocess.shape(len(files))
    size = prod(shape) * DATATYPES[datatype].itemsize
    if size > most_bytes:
        raise TooLarge(f"{len(files)} images make an input of {size} bytes, over the limit of {most_bytes}; send fewer")
    array = np.empty(shape, numpy_dtype(datatype))
    table, rows = _table(preprocess, datatype), _as_rows(array, preprocess)
    most_pixels = left = most_bytes // _PIXEL_BYTES
    for file, row in zip(files, rows, strict=True):
        image = _open(file)
        left -= prod(image.size)
        if left < 0:
            raise TooLarge(
                f"{file.name} has {image.width} x {image.height} pixels, and all images of a request together "
                f"may have {most_pixels}; send a smaller one"
            )
        with _few_large_ones(image):
            pixels = _pixels(image, file, preprocess, most_pixels)
        for channel, plane in enumerate(_planes(pixels, preprocess)):
            row[..., channel] = table[channel][plane]
    return from_array(name, array)


def _pixels(image: Image.Image, file: File, preprocess: Preprocess, most: int) -> np.ndarray:
    """UINT8 [height, width], or with three channels behind. Raises InvalidRequest, TooLarge."""
    upright = _upright(_load(image, file))
    # Pillow scales the width first: in between, a thin image may be far larger than at either end.
    if preprocess.resize == "stretch" and max(upright.width, preprocess.size[1]) * upright.height > most:
        raise TooLarge(f"{file.name} is too high for its width to be stretched; send it cut in pieces")
    return np.asarray(_resize(_color(upright, preprocess), preprocess))


def _as_rows(array: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """The same memory as [images, height, width, channels]."""
    if preprocess.layout == "NCHW":
        return array.transpose(0, 2, 3, 1)
    return array.reshape(len(array), *preprocess.size, preprocess.channels)


@lru_cache(64)
def _table(preprocess: Preprocess, datatype: str) -> np.ndarray:
    """What each level of a channel becomes, [channels, 256]: in FP64, then rounded to the datatype."""
    made, dtype = values(preprocess), numpy_dtype(datatype)
    return made.astype(dtype) if kind_of(datatype) == "float" else np.rint(made).astype(dtype)


def _planes(pixels: np.ndarray, preprocess: Preprocess) -> Sequence[np.ndarray]:
    """UINT8 [height, width] for each channel, in the model's order."""
    if pixels.ndim == 2:
        return [pixels]
    planes = [pixels[..., channel] for channel in range(3)]
    return planes[::-1] if preprocess.color == "BGR" else planes


class _Bounded(io.BytesIO):
    """A file in memory that can be read so often. Raises _TooManyReads."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads_left = _HEADER_READS

    def read(self, size: int | None = -1) -> bytes:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise _TooManyReads
        return super().read(size)


class _TooManyReads(Exception):
    pass


def _open(file: File) -> Image.Image:
    """The header alone. Raises InvalidRequest, TooLarge."""
    if not is_image(file.data):
        raise InvalidRequest(f"{file.name} is not an image that is read here; send {_TOLD}")
    if file.data.startswith(PNG[:4]) and not file.data.startswith(PNG):
        raise InvalidRequest(
            f"{file.name} is a PNG that was sent as text; send it as it is, as curl's --data-binary does"
        )
    stream = _Bounded(file.data)
    image = _guarded(lambda: Image.open(stream, formats=_FORMATS), file)
    if file.data.startswith(b"\xff\xd8") and _has_many_scans(file.data):
        raise InvalidRequest(f"{file.name} has more than {_MAX_SCANS} scans; save it anew")
    stream.reads_left = _HEADER_READS + len(file.data) // _BYTES_A_READ
    return image


def _has_many_scans(data: bytes) -> bool:
    """Of a JPEG, up to its end: what cameras put behind it may look like anything."""
    scans, position = 0, 2
    while scans <= _MAX_SCANS and (found := _MARKER.search(data, position)) and found[1] != _END:
        position = found.end()
        if found[1] not in (_START, _TEMPORARY):
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
        scans += found[1] == _SCAN
    return scans > _MAX_SCANS


def _load(image: Image.Image, file: File) -> Image.Image:
    """Its pixels; of an animation, those of the first frame. Raises InvalidRequest."""
    _guarded(image.load, file)
    return image


def _guarded(read: Callable[[], _T], file: File) -> _T:
    try:
        return read()
    except MemoryError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLarge(f"{file.name} has more pixels than are read here; send a smaller one") from None
    except _TooManyReads:
        raise InvalidRequest(f"{file.name} is cut into too many pieces to be read; save it anew") from None
    except Exception:  # decoders fail in more ways than one would list
        raise InvalidRequest(f"{file.name} is damaged or ends too early; send all of it") from None


def _few_large_ones(image: Image.Image) -> AbstractContextManager[object]:
    return _LARGE if prod(image.size) > _LARGE_PIXELS else nullcontext()


def _upright(image: Image.Image) -> Image.Image:
    """As EXIF's orientation says. Of EXIF that cannot be read nothing is said."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        turn = None
    return image if turn is None else image.transpose(turn)


def _color(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """RGB or grey, of 8 bits, on white where it can be seen through."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if preprocess.color == "GRAY" else "RGB")


def _resize(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    height, width = preprocess.size
    how = _INTERPOLATIONS[preprocess.interpolation]
    if preprocess.resize == "crop":
        return image.resize((width, height), how, _crop_box(image.size, preprocess))
    if preprocess.resize == "stretch":
        return image.resize((width, height), how)
    scale = min(width / image.width, height / image.height)
    scaled = [min(most, max(1, round(side * scale))) for side, most in zip(image.size, (width, height), strict=True)]
    padded = Image.new(image.mode, (width, height), (preprocess.fill,) * len(image.getbands()))
    padded.paste(image.resize((scaled[0], scaled[1]), how), ((width - scaled[0]) // 2, (height - scaled[1]) // 2))
    return padded


def _crop_box(size: tuple[int, int], preprocess: Preprocess) -> tuple[float, float, float, float]:
    """What of an image of this width and height is left, in its own pixels: cut first, a long image stays small."""
    height, width = preprocess.size
    if preprocess.shorter_side:
        scaled = [preprocess.shorter_side * side // min(size) for side in size]
    elif width * size[1] >= height * size[0]:
        scaled = [width, max(height, width * size[1] // size[0])]
    else:
        scaled = [max(width, height * size[0] // size[1]), height]
    box = []
    for side, full, part in zip(size, scaled, (width, height), strict=True):
        start = round((full - part) / 2)
        box.append((start * side / full, min((start + part) * side / full, side)))
    (left, right), (top, bottom) = box
    return left, top, right, bottom
