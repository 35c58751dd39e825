"""Lists the files with the weights of a TensorFlow.js model, which its model.json names."""

import json
from pathlib import Path

from gateway.contents.names import is_foreign

_MAX_BYTES = 64 << 20


def shards(path: Path) -> list[str]:
    """Return the names of files below the folder of a JSON file, without hidden ones, such as .ssh/id_rsa.

    Other names are left out, and so is everything if this is no model: the worker reports it.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            return []
        names = [name for group in json.loads(path.read_text())["weightsManifest"] for name in group["paths"]]
        return [name for name in names if _is_below(name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def _is_below(name: str) -> bool:
    parts = name.removeprefix("./").split("/")
    return not any(part in ("", ".", "..") or is_foreign(part) for part in parts)
