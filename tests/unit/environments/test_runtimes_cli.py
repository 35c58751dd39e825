"""The output of `modelport runtimes list` and `install`."""

import sys
from pathlib import Path

import pytest

from gateway.commands import runtimes


@pytest.fixture
def known(monkeypatch, runtime):
    """The runtimes that these commands find: one that can be built, and one that is unavailable on this machine."""
    monkeypatch.setenv("COLUMNS", "200")
    can = runtime("tiny==1.0", "other==1.0; sys_platform == 'nowhere'", download_mb={"cpu": 1500})
    cannot = runtime("tiny", name="old", title="Old", pythons="==3.50.*", requirements={"cpu": ("tiny",)})
    monkeypatch.setattr(runtimes, "discover", lambda: {"tiny": can, "old": cannot})
    monkeypatch.setattr(runtimes, "converters", dict)
    monkeypatch.setattr("gateway.environments.steps.check_disk", lambda *_: None)


def row(capsys, name: str) -> str:
    return next(line for line in capsys.readouterr().out.splitlines() if line.startswith(name))


@pytest.mark.usefixtures("known")
def test_list_before_and_after_install(tmp_path, wheel, capsys):
    wheel("tiny")
    minor = f"{sys.version_info[0]}.{sys.version_info[1]}."
    assert runtimes.list_runtimes(tmp_path, "cpu", {}) == 0
    output = capsys.readouterr().out
    (tiny,) = [line for line in output.splitlines() if line.startswith("tiny")]
    assert "not built" in tiny
    assert "tiny 1.0" in tiny
    assert "other" not in tiny
    assert "1.5 GB" in tiny
    assert minor in tiny
    assert "unavailable: Old needs Python 3.50, found" in output

    assert runtimes.install("tiny", tmp_path, "cpu", None) == 0
    output = capsys.readouterr().out
    assert "  creating the environment\n" in output
    assert "tiny is ready: tiny 1.0, " in output

    runtimes.list_runtimes(tmp_path, "cpu", {})
    assert " ready " in row(capsys, "tiny")
    assert runtimes.install("tiny", tmp_path, "cpu", None) == 0
    assert capsys.readouterr().out == "tiny is ready: tiny 1.0\n"


def test_list_has_what_is_installed_without_its_dependencies(tmp_path, capsys, monkeypatch, runtime):
    monkeypatch.setenv("COLUMNS", "200")
    alone = runtime("tiny==1.0", without_dependencies=("framework==2.0",))
    monkeypatch.setattr(runtimes, "discover", lambda: {"tiny": alone})
    monkeypatch.setattr(runtimes, "converters", dict)
    runtimes.list_runtimes(tmp_path, "cpu", {})
    assert "framework 2.0, tiny 1.0" in row(capsys, "tiny")


@pytest.mark.usefixtures("known")
def test_an_external_python_is_shown_as_the_users_own(tmp_path, capsys):
    runtimes.list_runtimes(tmp_path, "cpu", {"old": Path(sys.executable)})
    old = row(capsys, "old")
    assert "ready" in old
    assert "(yours)" in old


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nothing", "modelport: there is no runtime 'nothing': installed are old, tiny\n"),
        ("old", "modelport: Old needs Python 3.50, found"),
        ("tiny", "modelport: pip could not find tiny==1.0 for Python"),
    ],
)
def test_what_cannot_be_installed_is_one_sentence_on_stderr(tmp_path, wheel, capsys, name, sentence):
    assert runtimes.install(name, tmp_path, "cpu", None) == 1
    output = capsys.readouterr().err
    assert output.startswith(sentence)
    assert output.count("\n") == 1
