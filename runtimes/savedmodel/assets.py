"""Copies a SavedModel's assets, such as vocabularies, so that changing the files does not change the loaded model.

The graph contains their paths, and an operator that reads files opens them for each request. Variables and tables are
read once, when the model is loaded.
"""

import os
import shutil
import tempfile
from typing import Optional

from runtimes.contract import LoadError

_ASSETS = "assets"


class PrivateCopy:
    """
    folder  folder to load from: a copy if there are assets, otherwise the original
    Raises LoadError if the assets cannot be copied.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._copy: Optional[tempfile.TemporaryDirectory] = None
        if not os.path.isdir(os.path.join(folder, _ASSETS)):
            return
        self._copy = tempfile.TemporaryDirectory(prefix="modelport-assets-")
        self.folder = self._copy.name
        try:
            for name in os.listdir(folder):
                source, target = os.path.join(os.path.abspath(folder), name), os.path.join(self.folder, name)
                if name == _ASSETS:
                    _copy_folder(source, target)
                else:
                    os.symlink(source, target)
        except (OSError, shutil.Error) as error:
            raise LoadError(
                "its assets cannot be copied to the temporary folder: %s; make room there, or set TMPDIR to another"
                % (getattr(error, "strerror", None) or "a file cannot be read")
            ) from error

    def close(self) -> None:
        """Remove the copy, if there is one."""
        if self._copy is not None:
            self._copy.cleanup()


def _copy_folder(source: str, target: str) -> None:
    """Copy the contents of a folder without owners and times, which a worker may not set (shutil.copytree does)."""
    os.mkdir(target)
    for name in os.listdir(source):
        each = os.path.join(source, name)
        copy = _copy_folder if os.path.isdir(each) else shutil.copyfile
        copy(each, os.path.join(target, name))
