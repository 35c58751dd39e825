"""The compiled fast path is there, and is the one of this source; where it cannot be used, the log says why."""

import logging
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gateway.config import Sources, read_settings
from gateway.front import fast
from tests.support.environments import skip_or_fail

NAME = "gateway.front.fast_path"


def test_the_module_is_compiled_from_the_current_source(caplog: pytest.LogCaptureFixture) -> None:
    module = fast.load(True)
    if module is None:
        skip_or_fail(f"{caplog.messages[0]}; `make install` compiles it")
    assert module.__name__ == NAME
    assert not caplog.messages


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a module that is imported in place of the compiled one."""
    module = ModuleType(NAME)
    module.__file__ = str(tmp_path / "fast_path.so")
    Path(module.__file__).touch()
    monkeypatch.setitem(sys.modules, NAME, module)
    monkeypatch.setattr("gateway.front.fast_path", module, raising=False)
    return Path(module.__file__)


def test_a_module_is_used_in_a_package_without_its_source(stand_in: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert fast.load(True) is sys.modules[NAME]
    assert not caplog.messages


def test_a_module_older_than_its_source_is_not_used(stand_in: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = stand_in.with_name("fast_path.pyx")
    source.touch()
    os.utime(source, (stand_in.stat().st_atime, stand_in.stat().st_mtime - 1))
    assert fast.load(True) is sys.modules[NAME]
    os.utime(source, (stand_in.stat().st_atime, stand_in.stat().st_mtime + 1))
    assert fast.load(True) is None
    [message] = caplog.messages
    assert "the compiled fast path is older than its source: install a C compiler" in message


def test_without_the_module_the_log_says_what_to_do(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr("gateway.front.fast_path")
    monkeypatch.setitem(sys.modules, NAME, None)
    assert fast.load(True) is None
    [(_, level, message)] = caplog.record_tuples
    assert level == logging.WARNING
    assert "the compiled fast path cannot be imported" in message
    assert "install a C compiler and Python's headers and then modelport again" in message


def test_it_can_be_turned_off(stand_in: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    for sources in (
        Sources({"fast_path": False}, {}, tmp_path),
        Sources({}, {"MODELPORT_FAST_PATH": "false"}, tmp_path),
    ):
        settings = read_settings(sources)
        assert fast.load(settings.fast_path) is None
    assert fast.load(read_settings(Sources({}, {}, tmp_path)).fast_path) is not None
    assert not caplog.messages
