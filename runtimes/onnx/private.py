"""Weights that lie beside an ONNX file, read from a copy that nobody else can write.

ONNX Runtime maps them and reads on from the map while it serves. Were somebody to write into such a file, the new
values would mix into answers, and a file that is cut short would kill the process.
"""

import contextlib
import os
import shutil
import tempfile
from typing import Iterator, Tuple

from runtimes.contract import LoadError
from runtimes.external_data import weight_files


@contextlib.contextmanager
def private(path: str) -> Iterator[str]:
    """The path to load: `path` itself where all is in it, else that of a copy, with the weights beside it.

    The copy's names are gone after the block: what is mapped stays, and its room is free when the process ends.
    Raises LoadError where the weights are not beside it, where there is no room for them, and where a file changed
    within the block or while it was copied.
    """
    before = _state(path)
    beside = weight_files(path)
    if not beside:
        yield path
        _check(path, before)
        return
    top = os.path.dirname(path)
    states = {path: before, **{each: _state(each) for each in (os.path.join(top, name) for name in beside)}}
    with tempfile.TemporaryDirectory(prefix="modelport-weights-") as folder:
        own = os.path.join(folder, os.path.basename(path))
        try:
            shutil.copyfile(path, own)
            for name in beside:
                os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
                shutil.copyfile(os.path.join(top, name), os.path.join(folder, name))
        except OSError as error:
            raise LoadError(
                "its weights cannot be copied to the temporary folder: %s; make room there, or set TMPDIR to another"
                % (error.strerror or error)
            ) from error
        for each, state in states.items():
            _check(each, state)
        yield own


def _state(path: str) -> Tuple[int, ...]:
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _check(path: str, before: Tuple[int, ...]) -> None:
    if _state(path) != before:
        raise LoadError("'%s' changed while it was read: load the model again" % os.path.basename(path))
