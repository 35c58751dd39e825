"""One gateway for the tests of a file, with models of real frameworks."""

import shutil
from collections.abc import Callable, Iterator

import pytest

from gateway.environments.environment import Environment
from tests.support import ROOT
from tests.support.gateway_process import Gateway, start_gateway


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, runtime_environment: Callable[[str], Environment]
) -> Iterator[Gateway]:
    """A gateway with a model that classifies images of digits, and one that cannot be loaded."""
    runtime_environment("onnx")
    scratch = tmp_path_factory.mktemp("served")
    repository = scratch / "repository"
    shutil.copytree(ROOT / "model_repo" / "digits_onnx", repository / "digits_onnx")
    broken = repository / "broken" / "1" / "model.onnx"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no model")
    started = start_gateway(repository, scratch)
    yield started.wait_ready()
    started.close()


@pytest.fixture(scope="module")
def site(served: Gateway) -> str:
    """The address of its pages, without a slash at the end."""
    return f"http://{served.http}"
