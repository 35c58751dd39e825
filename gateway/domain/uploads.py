"""Where a front puts the files that a request to load a model brings, until the supervisor fetches them."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

# Folders in the run directory: one with a folder for each front, and the one of models that are loaded.
_UPLOADS, _FETCHED = "uploads", "uploaded"


@dataclass(frozen=True)
class Uploads:
    """max_bytes: of the files of one request. turn: held while a large body is received, of which there is one."""

    folder: Path
    max_bytes: int
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def json_bytes(self) -> int:
        """The size of a body with that many bytes in base64, with a megabyte for the rest."""
        return self.max_bytes * 4 // 3 + (1 << 20)


def uploads_folder(run_dir: Path, front: int) -> Path:
    """Return where a front puts uploads. The supervisor deletes what is left there when the front has ended."""
    return run_dir / _UPLOADS / str(front)


def fetch_upload(run_dir: Path, upload: str) -> Path:
    """Move a folder of a front, "front/folder", to where it stays as long as its model, and return its path there."""
    source = run_dir / _UPLOADS / upload
    target = run_dir / _FETCHED / source.name
    target.parent.mkdir(mode=0o700, exist_ok=True)
    return source.rename(target)
