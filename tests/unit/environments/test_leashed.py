"""The script that runs in the target interpreter, on every Python that this machine has."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from gateway.environments import interpreters
from gateway.environments.python_files import python_files
from gateway.environments.subprocesses import run_module


def pythons() -> list[Path]:
    """One Python per minor version, including the current one."""
    found = [
        interpreter for interpreter in map(interpreters.inspect, [Path(sys.executable), *python_files()]) if interpreter
    ]
    return list({each.minor: each.path for each in reversed(found) if each.version >= (3, 6, 0)}.values())


def test_a_module_runs_as_with_dash_m_on_every_python():
    found = pythons()
    assert found
    for python in found:
        lines: list[str] = []
        returncode = asyncio.run(run_module(python, "json.tool", ["--help"], lines.append))
        assert (python, returncode) == (python, 0)
        assert lines[0].startswith("usage:"), (python, lines)


@pytest.mark.parametrize(("module", "code"), [("no_such_module", 1), ("venv", 2)])
def test_the_exit_code_and_what_was_said_come_back(module, code):
    lines: list[str] = []
    assert asyncio.run(run_module(Path(sys.executable), module, [], lines.append)) == code
    assert any(module in line for line in lines)


def test_standard_input_is_empty_and_the_environment_has_nothing_that_bends_python(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PIP_TARGET", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "https://example.org/simple")
    code = "import os, sys; print(repr(sys.stdin.read()), [k for k in sorted(os.environ) if k in %r])"
    asked = ["PYTHONPATH", "PIP_TARGET", "PIP_INDEX_URL", "PIP_USER"]
    lines: list[str] = []
    # timeit runs a statement once and is in every standard library.
    arguments = ["-n1", "-r1", "-s", code % asked, "pass"]
    assert asyncio.run(run_module(Path(sys.executable), "timeit", arguments, lines.append)) == 0
    assert lines[0] == "'' ['PIP_INDEX_URL', 'PIP_USER']"


@pytest.mark.parametrize("reaped_meanwhile", [False, True])
def test_a_callback_that_fails_ends_the_process(monkeypatch, reaped_meanwhile):
    class Told(Exception):
        pass

    def fail(line: str) -> None:
        raise Told(line)

    def kill_what_is_gone(group: int, number: int) -> None:
        killpg(group, number)
        raise ProcessLookupError

    killpg = os.killpg
    if reaped_meanwhile:
        monkeypatch.setattr(os, "killpg", kill_what_is_gone)
    # Would never end on its own: the second statement waits forever.
    code = "print('running'); import threading; threading.Event().wait()"
    with pytest.raises(Told, match="running"):
        asyncio.run(run_module(Path(sys.executable), "timeit", ["-n1", "-r1", "-s", code, "pass"], fail))
