"""Deletes folders that may have any content."""

import contextlib
import os
from pathlib import Path


def remove_folder(top: Path) -> None:
    """Delete a folder, as far as possible. It may be nested so deeply that its paths are too long to be opened.

    Therefore each folder is moved to the top before its content is looked at. No process may be using it any more.
    """
    waiting, moved = [os.fspath(top)], 0
    for folder in waiting:  # which grows meanwhile
        with contextlib.suppress(OSError):
            os.chmod(folder, 0o700)
            with os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        if not entry.is_dir(follow_symlinks=False):
                            os.unlink(entry.path)
                            continue
                        os.chmod(entry.path, 0o700)  # to move a folder, one must be allowed to write to it
                        moved += 1
                        waiting.append(os.path.join(top, f".removed-{moved}"))
                        os.rename(entry.path, waiting[-1])
    for folder in reversed(waiting):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
