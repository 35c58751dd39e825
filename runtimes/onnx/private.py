"""Weights that lie beside an ONNX file, read from a copy that nobody else can write.

ONNX Runtime maps them and reads on from the map while it serves. Were somebody to write into such a file, the new
values would mix into answers, and a file that is cut short would kill the process.
"""

import contextlib
import os
import shutil
import tempfile
from typing import Iterator, List

from runtimes.contract import LoadError

# How a tensor says that its values lie elsewhere: the first key of its `external_data`, as protobuf writes it.
_MARK = b"\x0a\x08location"
_CHUNK = 1 << 24


@contextlib.contextmanager
def private(path: str) -> Iterator[str]:
    """The path to load: `path` itself where all is in it, else that of a copy, with the weights beside it.

    The copy's names are gone after the block: what is mapped stays, and its room is free when the process ends.
    Raises LoadError where there is no room for it.
    """
    beside = _weights(path)
    if not beside:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="modelport-weights-") as folder:
        own = os.path.join(folder, os.path.basename(path))
        try:
            shutil.copyfile(path, own)
            for name in beside:
                os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
                shutil.copyfile(os.path.join(os.path.dirname(path), name), os.path.join(folder, name))
        except OSError as error:
            raise LoadError(
                "its weights cannot be copied to the temporary folder: %s; make room there, or set TMPDIR to another"
                % (error.strerror or error)
            ) from error
        yield own


def _weights(path: str) -> List[str]:
    """The files in the model's folder that the model names; one more than it needs does no harm."""
    if not _has_mark(path):
        return []
    with open(path, "rb") as file:
        model = file.read()
    top = os.path.dirname(path)
    found = []
    for folder, _, names in os.walk(top):
        for name in names:
            relative = os.path.relpath(os.path.join(folder, name), top)
            if os.path.isfile(os.path.join(top, relative)) and os.fsencode(relative) in model:
                found.append(relative)
    return [name for name in found if name != os.path.basename(path)]


def _has_mark(path: str) -> bool:
    """In pieces: a file that has its weights in itself may have 2 GiB of them."""
    with open(path, "rb") as file:
        end = b""
        while True:
            piece = file.read(_CHUNK)
            if not piece:
                return False
            end += piece
            if _MARK in end:
                return True
            end = end[-len(_MARK) :]
