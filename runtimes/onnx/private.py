"""Weights that lie beside an ONNX file, read from a copy that nobody else can write.

ONNX Runtime maps them and reads on from the map while it serves. Were somebody to write into such a file, the new
values would mix into answers, and a file that is cut short would kill the process.
"""

import contextlib
import os
import shutil
import tempfile
from typing import Iterator

from runtimes.contract import LoadError
from runtimes.external_data import weight_files


@contextlib.contextmanager
def private(path: str) -> Iterator[str]:
    """The path to load: `path` itself where all is in it, else that of a copy, with the weights beside it.

    The copy's names are gone after the block: what is mapped stays, and its room is free when the process ends.
    Raises LoadError where the weights are not beside it, or there is no room for them.
    """
    beside = weight_files(path)
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
