"""The compiled fast path is there, and is the one of this source; where it cannot be used, the log says why."""

import logging
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from gateway.config import Sources, read_settings
from gateway.front import fast
from tests.support.environments import skip_or_fail

NAME = "gateway.front.fast_path"


def test_the_module_is_compiled_from_the_current_source(caplog: pytest.LogCaptureFixture) -> None:
    if find_spec(NAME) is None:
        skip_or_fail(
            "there is no compiled fast path: install a C compiler and Python's headers, then `make clean install`"
        )
    assert fast.load(True) is not None, f"{caplog.messages}: `make install` compiles it"
    assert not caplog.messages


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a module that is imported in place of the compiled one."""
    file = tmp_path / "fast_path.so"
    file.touch()
    module = ModuleType(NAME)
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, NAME, module)
    return file


def test_a_module_is_used_in_a_package_without_its_source(stand_in: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert fast.load(True) is sys.modules[NAME]
    assert not caplog.messages


@pytest.mark.parametrize("name", ["fast_path.pyx", "compiled/http.pxi"])
def test_a_module_older_than_its_source_is_not_used(
    name: str, stand_in: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = stand_in.parent / name
    source.parent.mkdir(exist_ok=True)
    source.touch()
    compiled = stand_in.stat().st_mtime
    os.utime(source, (compiled, compiled - 1))
    assert fast.load(True) is sys.modules[NAME]
    os.utime(source, (compiled, compiled + 1))
    assert fast.load(True) is None
    [message] = caplog.messages
    assert message.startswith("the fast path is older than its source, so requests take more CPU time: ")


def _absent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("importlib.import_module", lambda name: _raise(ModuleNotFoundError(f"No module {name}", name=name)))


def _broken(patch: pytest.MonkeyPatch) -> None:
    error = ImportError("fast_path.so: undefined symbol: PyFloat_Pack2")
    patch.setattr("importlib.import_module", lambda name: _raise(error))


def _stale(patch: pytest.MonkeyPatch) -> None:
    error = AttributeError("module 'gateway.engine.tally' has no attribute 'Gone'")
    patch.setattr("importlib.import_module", lambda name: _raise(error))


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_absent, "was not compiled when modelport was installed"),
        (_broken, "cannot be loaded (fast_path.so: undefined symbol: PyFloat_Pack2)"),
        (_stale, "cannot be loaded (module 'gateway.engine.tally' has no attribute 'Gone')"),
    ],
)
def test_without_a_module_the_log_says_what_to_do(
    make: Callable[[pytest.MonkeyPatch], None],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make(monkeypatch)
    assert fast.load(True) is None
    [(_, level, message)] = caplog.record_tuples
    assert level == logging.WARNING
    assert message == (
        f"the fast path {reason}, so requests take more CPU time: install a C compiler and Python's headers "
        "and then modelport again, or install modelport from a wheel"
    )


@pytest.mark.parametrize(
    ("flags", "environment", "used"),
    [({}, {}, True), ({"fast_path": False}, {}, False), ({}, {"MODELPORT_FAST_PATH": "false"}, False)],
)
def test_a_setting_turns_it_off(
    flags: dict[str, bool],
    environment: dict[str, str],
    used: bool,
    stand_in: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = read_settings(Sources(flags, environment, tmp_path))
    assert (fast.load(settings.fast_path) is not None) is used
    assert not caplog.messages
