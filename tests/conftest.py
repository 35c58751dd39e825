"""What tests share: the zoo, the runtimes' environments, a real gateway in its own process."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.config import home
from gateway.environments.environment import Environment, build, locate
from gateway.environments.errors import Cannot
from gateway.environments.runtime import discover
from tests.gateway_process import Gateway, start_gateway

ROOT = Path(__file__).parent.parent
RUNTIMES = ("onnx", "torchscript", "savedmodel", "mxnet")


def cannot_have(reason: str) -> None:
    """Skip by reason on a user's machine; in CI nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def zoo() -> Path:
    path = Path(os.environ.get("MODELPORT_ZOO", ROOT.parent / "shared" / "zoo"))
    if not path.is_dir():
        cannot_have(f"no zoo of real models at {path}: set MODELPORT_ZOO")
    return path


@pytest.fixture(scope="session")
def runtime_environment() -> Callable[[str], Environment]:
    """name → its environment, built once per machine under MODELPORT_HOME; skips where it cannot be had."""
    built: dict[str, Environment | Cannot] = {}

    def get(name: str) -> Environment:
        if name not in built:
            try:
                environment = locate(discover()[name], "cpu", home())
                if not environment.ready:
                    asyncio.run(build(environment, lambda line: print(f"{name}: {line}", file=sys.stderr)))
                built[name] = environment
            except Cannot as error:
                built[name] = error
        found = built[name]
        if isinstance(found, Cannot):
            cannot_have(f"runtime {name}: {found}")
            raise found
        return found

    return get


@pytest.fixture(scope="session")
def runtime_python(runtime_environment: Callable[[str], Environment]) -> Callable[[str], Path]:
    """name → the interpreter of its environment. The fake runtime needs nothing but numpy: our own does."""
    return lambda name: Path(sys.executable) if name == "fake" else runtime_environment(name).python


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Starts gateways over a repository; ends what a test leaves running."""
    started: list[Gateway] = []

    def start(repository: Path, *flags: str, **environment: str) -> Gateway:
        made = start_gateway(repository, tmp_path, *flags, **environment)
        started.append(made)
        return made

    yield start
    for each in started:
        each.close()
