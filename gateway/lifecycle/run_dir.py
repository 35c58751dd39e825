"""The private folder of one gateway, for sockets and status pages."""

import contextlib
import fcntl
import shutil
import tempfile
from pathlib import Path
from typing import IO

from gateway.config import SettingsError

# Socket paths are limited to 104 bytes (macOS; 108 on Linux), and the run directory's and sockets' names come on top.
_MAX_TEMP_LENGTH = 46


def new_run_dir() -> tuple[Path, IO[str]]:
    """Return a new private folder for sockets and status pages, and the lock that marks it as in use.

    Raises SettingsError, OSError.
    """
    try:
        parent = Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise SettingsError(
            "no folder for temporary files can be written to; mount a writable /tmp, or name one in TMPDIR"
        ) from None
    if len(str(parent)) > _MAX_TEMP_LENGTH:
        parent = Path("/tmp")  # noqa: S108 - mkdtemp creates a private folder in it
    for stale in parent.glob("modelport-*/lock"):
        # A gateway that was killed leaves its folder behind. A running one, in any container, still holds its lock.
        with contextlib.suppress(OSError), stale.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(stale.parent)
    folder = Path(tempfile.mkdtemp(prefix="modelport-", dir=parent))
    # It stays open, and therefore locked, until this process ends. It gets its name when it is locked: another process
    # that starts at this moment would take the folder for a stale one, and remove it.
    lock = (folder / "lock.new").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (folder / "lock.new").rename(folder / "lock")
    return folder, lock
