"""Reads files of models that are small if they are what they should be."""

from pathlib import Path


def read_small(file: Path, max_bytes: int, broken: type[Exception]) -> bytes:
    """Return the content of a file.

    Raises FileNotFoundError, and `broken` with one sentence, without a path, if the file cannot be read or is larger.
    """
    try:
        with file.open("rb") as stream:
            raw = stream.read(max_bytes + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise broken(f"its {file.name} cannot be read: {error.strerror}") from None
    if len(raw) > max_bytes:
        raise broken(f"its {file.name} is over the limit of {max_bytes} bytes")
    return raw
