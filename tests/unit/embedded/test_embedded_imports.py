"""What a program that loads models does not import: anything of a server."""

import subprocess
import sys

import pytest

from tests.support import ROOT

SERVER = {"fastapi", "starlette", "uvicorn", "httptools", "grpc", "jwt", "gateway.front", "gateway.supervisor"}


def test_the_api_imports_nothing_of_a_server_nor_of_tables() -> None:
    program = "import sys, modelport; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {*SERVER, "pyarrow", "rich"} & set(done.stdout.split()) == set()


def test_the_module_of_a_worker_has_names_that_the_package_has_too() -> None:
    import modelport
    from runtimes.python import modelport as of_workers

    assert set(of_workers.__all__) <= set(modelport.__all__)
    with pytest.raises(AttributeError, match=r"context\.call"):
        of_workers.load  # noqa: B018
    assert all(getattr(modelport, name) is getattr(of_workers, name) for name in of_workers.__all__)
