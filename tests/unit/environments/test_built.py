"""The environments on a machine: those of models are listed, described and removed like those of runtimes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.commands import runtimes
from gateway.environments import built
from gateway.environments.environment import EnvironmentUnavailable, locate
from gateway.environments.runtime import Runtime


@pytest.fixture
def base(runtime) -> Runtime:
    """A runtime whose models may name packages."""
    return replace(runtime("tiny==1.0"), model_requirements="requirements.txt")


@pytest.fixture
def folder(base, tmp_path) -> Path:
    """A complete environment with the packages of a model."""
    model = replace(base, name="tiny-0123abcd", base="tiny", requirements={"cpu": ("tiny==1.0", "other")})
    environment = locate(model, "cpu", tmp_path)
    assert environment.folder is not None
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to(sys.executable)
    marker = {"runtime": model.name, "accelerator": "cpu", "requirements": ["tiny==1.0", "other"], "size_bytes": 7e6}
    (environment.folder / "modelport.json").write_text(json.dumps({**marker, "installed": {"other": "2.0"}}))
    return environment.folder


def test_environments_of_models_are_listed_with_their_packages(base, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(runtimes, "discover", lambda: {"tiny": base})
    monkeypatch.setattr(runtimes, "converters", dict)
    (tmp_path / "environments" / "tiny-ffffffff-cpu-0123456789ab").mkdir()  # not complete
    (tmp_path / "environments" / "unrelated").mkdir()

    (found,) = built.of_models(tmp_path, {"tiny": base})
    assert (found.runtime.name, found.runtime.base, found.folder) == ("tiny-0123abcd", "tiny", folder)
    runtimes.list_runtimes(tmp_path, "cpu", {})
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("tiny-0123abcd"))
    assert "ready" in row
    assert "tiny 1.0, other 2.0" in row
    assert "7 MB" in row


def test_all_environments_of_a_name_are_removed_and_no_others(folder, tmp_path, capsys):
    older = folder.with_name("tiny-0123abcd-cuda-0123456789ab")
    other = folder.with_name("tiny-cpu-0123456789ab")
    older.mkdir()
    other.mkdir()

    assert runtimes.remove("tiny-0123abcd", tmp_path) == 0

    assert f"removed {folder}, 7 MB\n" in capsys.readouterr().out
    assert [each.name for each in folder.parent.iterdir() if each.is_dir()] == [other.name]
    assert runtimes.remove("tiny-0123abcd", tmp_path) == 1
    assert capsys.readouterr().err == "modelport: no environment of 'tiny-0123abcd' is built: built are tiny\n"
    assert runtimes.remove("../tiny", tmp_path / "nowhere") == 1
    assert capsys.readouterr().err == "modelport: no environment of '../tiny' is built: built are none\n"


def test_an_environment_in_which_a_process_runs_is_kept(folder):
    python = folder / "bin" / "python"
    with subprocess.Popen([python, "-c", "input()"], stdin=subprocess.PIPE) as process:
        with pytest.raises(EnvironmentUnavailable, match=f"process {process.pid} runs in the environment"):
            built.remove(folder)
        assert (folder / "modelport.json").exists()
        process.communicate(b"\n")
    built.remove(folder)
    assert not folder.exists()
