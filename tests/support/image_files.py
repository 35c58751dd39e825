"""Image files for tests: encoders, PNG chunks, forms."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def save(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    """UINT8 [height, width, channels], or [height, width] for one channel."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def chunk(name: bytes, data: bytes = b"") -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, kind: int, pixels: bytes, *between: bytes) -> bytes:
    """One that Pillow does not write. kind: PNG's colour type; pixels: rows, each after its filter's byte 0."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(between) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND")


def form(*files: bytes, boundary: str = "line") -> tuple[bytes, dict[str, str]]:
    """A body of multipart/form-data with these files, and its header."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="data"; filename="x"\r\n\r\n'.encode()
    body = b"".join(head + file + b"\r\n" for file in files) + f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}
