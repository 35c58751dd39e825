"""What models needed when they were loaded, kept on disk for the next start of a gateway.

The values are estimates: a file that is missing, damaged or outdated costs room, or a load that others make room for,
and nothing else. So several gateways may share it, and the last one to write wins.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from gateway.lifecycle.policy import VersionKey

# The newest so many models are kept, about 100 bytes each. A larger value keeps what old files needed for longer.
_MAX_MODELS = 20_000
_MAX_BYTES = 16 << 20


class NeedsFile:
    """A JSON object: model, version and fingerprint → bytes, oldest first."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[VersionKey, int]:
        """Return what is known; empty if the file cannot be used."""
        try:
            if self._path.stat().st_size > _MAX_BYTES:
                return {}
            content = json.loads(self._path.read_bytes())
            return {VersionKey(*json.loads(key)): int(size) for key, size in content.items() if int(size) > 0}
        except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return {}

    def write(self, needs: Mapping[VersionKey, int]) -> None:
        """Add these to what the file has. Raises OSError."""
        found = self.read()
        for key, size in needs.items():
            found.pop(key, None)
            found[key] = size
        newest = list(found.items())[-_MAX_MODELS:]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file, draft = tempfile.mkstemp(prefix=self._path.name, dir=self._path.parent)
        try:
            with open(file, "w") as stream:
                json.dump({json.dumps(key): size for key, size in newest}, stream)
            os.replace(draft, self._path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
