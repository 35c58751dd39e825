"""Converts image files to the tensor of an input, as specified in docs/images.md. Pixels are computed only here.

Files are not trusted. Their format, their number of pixels and the number of reads of their decoder are limited before
they are decoded. Of the metadata, only the orientation is read. The functions are called in threads; Pillow releases
the GIL while it decodes and scales.
"""

import io
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image, WebPImagePlugin

from gateway.codecs.decoding_limit import DecodingLimit
from gateway.codecs.media_types import IMAGE_FORMATS, PNG, is_image
from gateway.domain.image_processing import Preprocess, values
from gateway.errors import InvalidRequest, TooLarge
from runtimes.contract import DATATYPES, kind_of, numpy_dtype
from runtimes.tensors import Buffer, Tensor, from_array

_T = TypeVar("_T")
# A context in which as many bytes are used. Entering it raises Overloaded if there is too little room.
Reserve = Callable[[int], AbstractContextManager[Any]]

# Pillow loads the plugins of the other four on its own. To find WebP by its name, it would import all plugins.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", WebPImagePlugin.WebPImageFile.format)
# The memory that Pillow uses per pixel of an RGB image.
_PIXEL_BYTES = 4
# How many copies of an image there are at a time while it is decoded, rotated and scaled, as measured: up to 2.5 of
# most (progressive JPEG), 4 of WebP, and 5 of one that is transparent and rotated.
_COPIES, _MANY_COPIES = 3, 5
# The memory of smaller tensors is not reserved.
_LARGE_TENSOR_BYTES = 4 << 20
# Pillow reads headers segment by segment, in Python, so a file of millions of tiny segments would occupy a thread for
# long. Cameras and editors write far fewer.
_MAX_HEADER_READS = 1000
# Pixels are read in larger pieces: one more read is allowed for this many bytes of the file.
_BYTES_PER_READ = 256
# Each scan of a progressive JPEG is decoded over the whole image again, so a small file with many scans would occupy a
# thread for long. Encoders write about ten.
_MAX_SCANS = 100
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_START, _END, _SCAN, _TEMPORARY = b"\xd8", b"\xd9", b"\xda", b"\x01"
_SCAN_PAIR = int.from_bytes(b"\xff" + _SCAN, "little")
_ORIENTATION = 0x0112
_TRANSPOSES = {
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
    """`name` is how error messages refer to the file, such as "the image"."""

    name: str
    data: bytes


def image_tensor(
    files: Sequence[File],
    preprocess: Preprocess,
    name: str,
    datatype: str,
    max_bytes: int,
    allocate: Callable[[int], Buffer] = bytearray,
    reserve: Reserve = nullcontext,
) -> Tensor:
    """Return a tensor with one row for each file, in order. Raises InvalidRequest.

    allocate  returns memory for this many bytes, all of which will be overwritten
    reserve   a context in which this many more bytes are used

    Raises TooLarge if the decoded files or the tensor would take more than `max_bytes`, and what `reserve` raises, but
    waits for other images that are being decoded.
    """
    shape = preprocess.shape(len(files))
    size = prod(shape) * DATATYPES[datatype].itemsize
    if size > max_bytes:
        raise TooLarge(f"{len(files)} images make an input of {size} bytes, over the limit of {max_bytes}; send fewer")
    with reserve(size) if size > _LARGE_TENSOR_BYTES else nullcontext():
        array = np.frombuffer(allocate(size), numpy_dtype(datatype)).reshape(shape)
        _fill(array, files, preprocess, datatype, max_bytes, reserve)
    return from_array(name, array)


def _fill(
    array: np.ndarray, files: Sequence[File], preprocess: Preprocess, datatype: str, max_bytes: int, reserve: Reserve
) -> None:
    """Write the values of the files' pixels into the tensor."""
    table, rows, is_plain = _table(preprocess, datatype), _as_rows(array, preprocess), _is_plain(preprocess, datatype)
    max_pixels = pixels_left = max_bytes // _PIXEL_BYTES
    for file, row in zip(files, rows, strict=True):
        image = _open(file)
        pixels_left -= prod(image.size)
        if pixels_left < 0:
            raise TooLarge(
                f"{file.name} has {image.width} x {image.height} pixels, and all images of a request together "
                f"may have {max_pixels}; send a smaller one"
            )
        memory = partial(reserve, prod(image.size) * _PIXEL_BYTES * _copies(image))
        with _DECODING.reserve(prod(image.size), max_pixels, memory):
            pixels = _pixels(image, file, preprocess, max_pixels)
        for channel, plane in enumerate(_planes(pixels, preprocess)):
            if is_plain:
                np.copyto(row[..., channel], plane, casting="unsafe")  # each of them is exact
            else:
                # Unlike `row[..., channel] = table[channel][plane]`, it needs no intermediate array, and no GIL. No
                # level is out of range; "wrap" is faster than "clip".
                np.take(table[channel], plane, out=row[..., channel], mode="wrap")


def _pixels(image: Image.Image, file: File, preprocess: Preprocess, max_pixels: int) -> np.ndarray:
    """Decode to UINT8 [height, width] or [height, width, 3]. Raises InvalidRequest, TooLarge."""
    upright = _upright(_load(image, file))
    # Pillow scales the width first, so the intermediate image of a narrow, tall one may be far larger than the result.
    if preprocess.resize == "stretch" and max(upright.width, preprocess.size[1]) * upright.height > max_pixels:
        raise TooLarge(f"{file.name} is too tall to be stretched to the model's width; cut it into pieces")
    return np.asarray(_resize(_color(upright, preprocess), preprocess))


def _as_rows(array: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """Return a view of the array with shape [images, height, width, channels]."""
    if preprocess.layout == "NCHW":
        return array.transpose(0, 2, 3, 1)
    return array.reshape(len(array), *preprocess.size, preprocess.channels)


@lru_cache(64)
def _table(preprocess: Preprocess, datatype: str) -> np.ndarray:
    """Return the input value for each level of each channel, [channels, 256]: computed in FP64, then rounded."""
    table, dtype = values(preprocess), numpy_dtype(datatype)
    return table.astype(dtype) if kind_of(datatype) == "float" else np.rint(table).astype(dtype)


@lru_cache(64)
def _is_plain(preprocess: Preprocess, datatype: str) -> bool:
    """Whether the values are the levels themselves, so that looking them up would take three times as long."""
    table = _table(preprocess, datatype)
    return bool(np.array_equal(table, np.broadcast_to(np.arange(256), table.shape)))


def _planes(pixels: np.ndarray, preprocess: Preprocess) -> Sequence[np.ndarray]:
    """Return UINT8 [height, width] for each channel, in the model's order."""
    if pixels.ndim == 2:
        return [pixels]
    planes = [pixels[..., channel] for channel in range(3)]
    return planes[::-1] if preprocess.color == "BGR" else planes


def _copies(image: Image.Image) -> int:
    return _MANY_COPIES if image.has_transparency_data or image.format == "WEBP" else _COPIES


_DECODING = DecodingLimit()


class _LimitedReads(io.BytesIO):
    """A file in memory that limits the number of reads. `read` raises _TooManyReads."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads_left = _MAX_HEADER_READS

    def read(self, size: int | None = -1) -> bytes:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise _TooManyReads
        return super().read(size)


class _TooManyReads(Exception):
    pass


def _open(file: File) -> Image.Image:
    """Read the header. Raises InvalidRequest, TooLarge."""
    if not is_image(file.data):
        raise InvalidRequest(f"{file.name} is not an image in a supported format; send {IMAGE_FORMATS}")
    if file.data.startswith(PNG[:4]) and not file.data.startswith(PNG):
        raise InvalidRequest(
            f"{file.name} is a PNG that was sent as text; send its bytes unchanged, as curl's --data-binary does"
        )
    stream = _LimitedReads(file.data)
    image = _convert_errors(lambda: Image.open(stream, formats=_FORMATS), file)
    if file.data.startswith(b"\xff\xd8") and _has_many_scans(file.data):
        raise InvalidRequest(f"{file.name} has more than {_MAX_SCANS} scans; save it again")
    stream.reads_left = _MAX_HEADER_READS + len(file.data) // _BYTES_PER_READ
    return image


def _has_many_scans(data: bytes) -> bool:
    """Whether a JPEG has too many scans. Cameras append arbitrary data, so nothing after the end marker counts."""
    # A search for each marker takes as long as half the decoding. Few files have the bytes of so many scans anywhere,
    # which numpy counts eight times as fast as bytes.count, and without the GIL.
    pairs = [np.frombuffer(data, "<u2", (len(data) - start) // 2, start) for start in (0, 1)]
    if sum([np.count_nonzero(each == _SCAN_PAIR) for each in pairs]) <= _MAX_SCANS:
        return False
    scans, position = 0, 2
    while scans <= _MAX_SCANS and (found := _MARKER.search(data, position)) and found[1] != _END:
        position = found.end()
        if found[1] not in (_START, _TEMPORARY):
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
        scans += found[1] == _SCAN
    return scans > _MAX_SCANS


def _load(image: Image.Image, file: File) -> Image.Image:
    """Decode the pixels, for an animation those of the first frame. Raises InvalidRequest."""
    _convert_errors(image.load, file)
    return image


def _convert_errors(read: Callable[[], _T], file: File) -> _T:
    try:
        return read()
    except MemoryError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLarge(f"{file.name} has too many pixels; send a smaller one") from None
    except _TooManyReads:
        raise InvalidRequest(f"{file.name} consists of too many pieces; save it again") from None
    except Exception:  # decoders raise many types of exceptions
        raise InvalidRequest(f"{file.name} is damaged or ends too early; send all of it") from None


def _upright(image: Image.Image) -> Image.Image:
    """Rotate or flip the image according to its EXIF orientation. Invalid EXIF is ignored."""
    try:
        transpose = _TRANSPOSES.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        transpose = None
    return image if transpose is None else image.transpose(transpose)


def _color(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """Convert to 8-bit RGB or grayscale, with a white background behind transparency."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    mode = "L" if preprocess.color == "GRAY" else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _resize(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    height, width = preprocess.size
    resampling = _INTERPOLATIONS[preprocess.interpolation]
    if preprocess.resize == "crop":
        return image.resize((width, height), resampling, _crop_box(image.size, preprocess))
    if preprocess.resize == "stretch":
        return image.resize((width, height), resampling)
    scale = min(width / image.width, height / image.height)
    scaled = [min(limit, max(1, round(side * scale))) for side, limit in zip(image.size, (width, height), strict=True)]
    padded = Image.new(image.mode, (width, height), (preprocess.fill,) * len(image.getbands()))
    padded.paste(
        image.resize((scaled[0], scaled[1]), resampling), ((width - scaled[0]) // 2, (height - scaled[1]) // 2)
    )
    return padded


def _crop_box(size: tuple[int, int], preprocess: Preprocess) -> tuple[float, float, float, float]:
    """Return the part that is kept of an image of this size, as (left, top, right, bottom) in its own pixels.

    Cropping before scaling keeps the intermediate image of a long, narrow one small.
    """
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
