"""Content-Types, and which bodies are images by them and by how they begin; without what reads them."""

from functools import lru_cache

from runtimes.tensors import Buffer

FORM, BYTES = "multipart/form-data", "application/octet-stream"

# What nobody has said anything about; curl's -d and --data-binary say "form" of whatever they send.
_UNTOLD = ("", "application/x-www-form-urlencoded")
PNG = b"\x89PNG\r\n\x1a\n"
_BEGINNINGS = (b"\xff\xd8\xff", PNG[:4], b"BM", b"GIF87a", b"GIF89a")


def is_image_type(content_type: str) -> bool:
    """Whether a body with such a Content-Type is one image, or a form with some."""
    kind = media_type(content_type)
    return kind.startswith("image/") or kind in (FORM, BYTES)


def is_image_body(content_type: str, body: Buffer) -> bool:
    """The same, or nothing is said of the body, and it begins as an image."""
    return is_image_type(content_type) or (media_type(content_type) in _UNTOLD and is_image(body))


def is_image(data: Buffer) -> bool:
    """Whether it begins as a JPEG, PNG, BMP, GIF or WebP does."""
    start = bytes(data[:12])
    return start.startswith(_BEGINNINGS) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


@lru_cache(256)
def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
