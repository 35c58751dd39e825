"""Copies the external weights of an ONNX model, so that no other process can change them.

ONNX Runtime maps these files and continues to read the mapping while it serves. If another process wrote to such a
file, answers would mix old and new weights; if it truncated the file, this process would be killed.
"""

import contextlib
import os
from typing import Iterator, Tuple

from runtimes.contract import LoadError
from runtimes.external_data import weight_files


@contextlib.contextmanager
def private_copy(path: str) -> Iterator[str]:
    """Yield the path to load: `path` if it contains all weights, otherwise a copy of it and its weights.

    The copies are deleted after the block. Mapped files continue to exist until the process ends.

    Raises LoadError if weights are missing, if there is no space for the copies, and if a file changed during the block
    or while it was copied.
    """
    before = _state(path)
    external = weight_files(path)
    if not external:
        yield path
        _check(path, before)
        return
    import shutil  # few models have external weights
    import tempfile

    top = os.path.dirname(path)
    states = {path: before, **{each: _state(each) for each in (os.path.join(top, name) for name in external)}}
    with tempfile.TemporaryDirectory(prefix="modelport-weights-") as folder:
        copy = os.path.join(folder, os.path.basename(path))
        try:
            shutil.copyfile(path, copy)
            for name in external:
                os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
                shutil.copyfile(os.path.join(top, name), os.path.join(folder, name))
        except OSError as error:
            raise LoadError(
                "its weights cannot be copied to the temporary folder: %s; make room there, or set TMPDIR to another"
                % (error.strerror or error)
            ) from error
        for each, state in states.items():
            _check(each, state)
        yield copy


def _state(path: str) -> Tuple[int, ...]:
    stat = os.stat(path)
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _check(path: str, before: Tuple[int, ...]) -> None:
    if _state(path) != before:
        raise LoadError("'%s' changed while it was read: load the model again" % os.path.basename(path))
