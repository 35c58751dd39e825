"""The example programs of Triton's client repository, unmodified. They are fetched, never kept here."""

import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gateway.config import home

_COMMIT = "58a44caa0dce77303115302e6dbdf64626b2b093"
_URL = f"https://raw.githubusercontent.com/triton-inference-server/client/{_COMMIT}/src/python/examples"
_TIMEOUT_S = 20.0


def example_program(name: str) -> Path:
    """The program's file: from the folder MODELPORT_TRITON_EXAMPLES if that is set, else from GitHub, fetched once.

    Skips the test where neither can be reached, as on a network without GitHub.
    """
    if folder := os.environ.get("MODELPORT_TRITON_EXAMPLES"):
        return Path(folder) / name
    file = home() / "test-clients" / "triton-examples" / _COMMIT / name
    if not file.exists():
        try:
            with urllib.request.urlopen(f"{_URL}/{name}", timeout=_TIMEOUT_S) as reply:
                text = reply.read()
        except (urllib.error.URLError, TimeoutError) as error:
            pytest.skip(f"{name} cannot be fetched ({error}); set MODELPORT_TRITON_EXAMPLES to its folder")
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{name}.{os.getpid()}")
        partial.write_bytes(text)
        partial.rename(file)
    return file
