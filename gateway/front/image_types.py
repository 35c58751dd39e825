"""Which bodies are images, by their Content-Type and by how they begin; without what reads them."""

from gateway.front.predict import media_type
from runtimes.wire import Buffer

FORM, BYTES = "multipart/form-data", "application/octet-stream"

_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF87a", b"GIF89a")


def is_image_type(content_type: str) -> bool:
    """Whether a body with such a Content-Type is one image, or a form with some."""
    kind = media_type(content_type)
    return kind.startswith("image/") or kind in (FORM, BYTES)


def is_image(data: Buffer) -> bool:
    """Whether it begins as a JPEG, PNG, BMP, GIF or WebP does."""
    start = bytes(data[:12])
    return start.startswith(_BEGINNINGS) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")
