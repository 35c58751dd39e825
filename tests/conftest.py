"""Fixtures that all tests share: the zoo, the runtimes' environments, a real gateway in its own process."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from gateway.environments import interpreters
from gateway.environments.environment import Environment
from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.runtime import Runtime, converters, discover
from gateway.lifecycle.devices import count_gpus
from tests.support import ROOT
from tests.support.browser import Browser, node_of
from tests.support.environments import ready_environment, skip_or_fail
from tests.support.gateway_process import Gateway, start_gateway


@pytest.fixture(autouse=True)
def _same_log() -> Iterator[None]:
    """Undo what a command that runs in this process does to logging, which later tests capture."""
    root, hook = logging.getLogger(), sys.excepthook
    level, handlers = root.level, root.handlers[:]
    yield
    logging.captureWarnings(False)
    sys.excepthook = hook
    root.setLevel(level)
    for handler in root.handlers[:]:
        if handler not in handlers and not type(handler).__module__.startswith("_pytest"):
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def zoo() -> Path:
    path = Path(os.environ.get("MODELPORT_ZOO", ROOT.parent / "shared" / "zoo"))
    if not path.is_dir():
        skip_or_fail(f"no zoo of real models at {path}: set MODELPORT_ZOO")
    return path


@pytest.fixture(scope="session")
def runtime_environment() -> Callable[[str], Environment]:
    """name → its environment."""
    runtimes = discover()
    return cache(lambda name: ready_environment(runtimes[name]))


# Workers run on CNTK's Python 3.6, with the last numpy for it, and on the newest at hand.
AGES = {"oldest": (("==3.6.*",), "numpy==1.19.5"), "newest": (("==3.14.*", "==3.13.*", "==3.12.*"), "numpy")}


@pytest.fixture(scope="session")
def numpy_python() -> Callable[[str], Path]:
    """ "oldest" or "newest" → an interpreter that has nothing but numpy."""

    def get(age: str) -> Path:
        choices, numpy = AGES[age]
        for pythons in choices:
            try:
                interpreters.find(pythons, "this test")
            except EnvironmentUnavailable:
                continue
            runtime = Runtime(f"test-{age}", "this test", ROOT, pythons, requirements={"cpu": (numpy,)})
            return ready_environment(runtime).python
        skip_or_fail(f"no Python {' or '.join(choices)} with venv is installed")
        raise AssertionError

    return cache(get)


@pytest.fixture(scope="session")
def runtime_python(runtime_environment: Callable[[str], Environment]) -> Callable[[str], Path]:
    """name → the interpreter of its environment. The fake runtime needs nothing but numpy: our own does."""
    return lambda name: Path(sys.executable) if name == "fake" else runtime_environment(name).python


@pytest.fixture(scope="session")
def cuda_python() -> Callable[[str], Path]:
    """name → the interpreter of its environment for CUDA; skips without a device, in CI too."""
    if not count_gpus():
        pytest.skip("no CUDA device is to be seen here")
    runtimes = discover()
    return cache(lambda name: ready_environment(runtimes[name], "cuda").python)


@pytest.fixture(scope="session")
def export_environment() -> Callable[[str], Environment]:
    """Return a converter's environment by name."""
    known = converters()
    return cache(lambda name: ready_environment(known[name]))


@pytest.fixture(scope="session")
def web_python(export_environment: Callable[[str], Environment]) -> Path:
    return export_environment("export-web").python


@pytest.fixture(scope="session")
def browser(web_python: Path) -> Iterator[Browser]:
    started = Browser(node_of(web_python))
    yield started
    started.close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Starts gateways over a repository; ends what a test leaves running."""
    started: list[Gateway] = []

    def start(repository: Path | None, *flags: str, **environment: str) -> Gateway:
        made = start_gateway(repository, tmp_path, *flags, **environment)
        started.append(made)
        return made

    yield start
    for each in started:
        each.close()
