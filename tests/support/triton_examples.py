"""The example programs of Triton's repositories, unmodified. They are fetched, never kept here."""

import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gateway.config import home

_COMMIT = "58a44caa0dce77303115302e6dbdf64626b2b093"
_URL = f"https://raw.githubusercontent.com/triton-inference-server/client/{_COMMIT}/src/python/examples"
_BACKEND_COMMIT = "f9088ff60944cc5a2e97ff16baba55f1666852bc"
_BACKEND_URL = f"https://raw.githubusercontent.com/triton-inference-server/python_backend/{_BACKEND_COMMIT}/examples"
_TIMEOUT_S = 20.0


def example_program(name: str) -> Path:
    """The program's file: from the folder MODELPORT_TRITON_EXAMPLES if that is set, else from GitHub, fetched once.

    Skips the test where neither can be reached, as on a network without GitHub.
    """
    return _fetched("MODELPORT_TRITON_EXAMPLES", _COMMIT, _URL, name)


def backend_example(name: str) -> Path:
    """The same for the examples of the Python backend, with their folder: "bls/sync_model.py".

    The variable is MODELPORT_TRITON_BACKEND_EXAMPLES.
    """
    return _fetched("MODELPORT_TRITON_BACKEND_EXAMPLES", _BACKEND_COMMIT, _BACKEND_URL, name)


def _fetched(variable: str, commit: str, url: str, name: str) -> Path:
    if folder := os.environ.get(variable):
        return Path(folder) / name
    file = home() / "test-clients" / "triton-examples" / commit / name
    if not file.exists():
        try:
            with urllib.request.urlopen(f"{url}/{name}", timeout=_TIMEOUT_S) as reply:
                text = reply.read()
        except (urllib.error.URLError, TimeoutError) as error:
            pytest.skip(f"{name} cannot be fetched ({error}); set {variable} to the folder of the examples")
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        partial.write_bytes(text)
        partial.rename(file)
    return file
