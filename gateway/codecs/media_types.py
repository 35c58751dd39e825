"""Content-Types, and how to recognize images by them or by their first bytes, without importing a decoder."""

from functools import lru_cache

from runtimes.tensor_bytes import Buffer

FORM, BYTES = "multipart/form-data", "application/octet-stream"

# Types that say nothing about the body: curl's -d and --data-binary send the second for everything.
_UNSPECIFIC = ("", "application/x-www-form-urlencoded")
PNG = b"\x89PNG\r\n\x1a\n"
IMAGE_FORMATS = "JPEG, PNG, WebP, BMP or GIF"
_MAGIC_NUMBERS = (b"\xff\xd8\xff", PNG[:4], b"BM", b"GIF87a", b"GIF89a")


def is_image_type(content_type: str) -> bool:
    """Whether a body with this Content-Type is an image, or a form that contains images."""
    kind = media_type(content_type)
    return kind.startswith("image/") or kind in (FORM, BYTES)


def is_image_body(content_type: str, body: Buffer) -> bool:
    """The same, also for a body without a specific Content-Type that starts like an image."""
    return is_image_type(content_type) or (media_type(content_type) in _UNSPECIFIC and is_image(body))


def is_image(data: Buffer) -> bool:
    """Whether the data starts like a JPEG, PNG, BMP, GIF or WebP."""
    start = bytes(data[:12])
    return start.startswith(_MAGIC_NUMBERS) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


@lru_cache(256)
def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def quality(parameters: str) -> float:
    """Return the weight q among the parameters of an entry of an Accept header (RFC 9110, section 12.4.2)."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
