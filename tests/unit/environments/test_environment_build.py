"""Builds with the real venv and the real pip."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from gateway.environments.built import remove
from gateway.environments.environment import Environment, EnvironmentUnavailable, build, locate
from gateway.environments.lock import locked_now


def version_in(environment: Environment) -> str:
    code = "import tiny; print(tiny.VERSION)"
    return subprocess.check_output([environment.python, "-I", "-c", code], text=True).strip()


def test_a_build_installs_tells_and_is_found_again(tmp_path, wheel, runtime, monkeypatch):
    wheel("tiny")
    home = tmp_path / "home"
    # The gateway's own packages must not be visible, and pip must not be configured to install elsewhere.
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PIP_USER", "1")
    wanted = runtime("tiny==1.0")
    environment = locate(wanted, "cpu", home)
    assert not environment.ready
    assert environment.installed == {}
    said: list[str] = []

    asyncio.run(build(environment, said.append))

    assert said[0] == "creating the environment"
    assert said[-1] == "installing 1 package"
    assert environment.ready
    assert environment.installed["tiny"] == "1.0"
    assert version_in(environment) == "1.0"
    assert environment.size_bytes() > 1_000_000
    assert not (tmp_path / "elsewhere").exists()
    again = locate(wanted, "cpu", home)
    assert again.ready
    said.clear()
    asyncio.run(build(again, said.append))
    assert said == []

    assert again.folder is not None
    remove(again.folder)
    assert not again.ready
    assert not again.folder.exists()


def test_a_half_installed_package_is_installed_again_and_the_venv_kept(tmp_path, wheel, runtime):
    wheel("tiny")
    environment = locate(runtime("tiny==1.0"), "cpu", tmp_path / "home")
    asyncio.run(build(environment, lambda line: None))
    assert environment.folder is not None
    # The state after pip is killed when it has written only METADATA: broken, but "already satisfied".
    (site,) = environment.folder.glob("lib/python3*/site-packages")
    (site / "tiny.py").write_text("")
    record = site / "tiny-1.0.dist-info" / "RECORD"
    record.write_text("\n".join(line for line in record.read_text().splitlines() if "INSTALLER" not in line))
    (environment.folder / "modelport.json").unlink()
    assert not environment.ready
    said: list[str] = []

    asyncio.run(build(environment, said.append))

    assert said == ["installing 1 package"]
    assert environment.ready
    assert version_in(environment) == "1.0"


def test_an_environment_whose_python_went_away_is_made_anew(tmp_path, wheel, runtime):
    wheel("tiny")
    environment = locate(runtime("tiny==1.0"), "cpu", tmp_path / "home")
    asyncio.run(build(environment, lambda line: None))
    environment.python.unlink()
    environment.python.symlink_to(tmp_path / "gone")
    assert not environment.ready
    said: list[str] = []

    asyncio.run(build(environment, said.append))

    assert "creating the environment" in said
    assert version_in(environment) == "1.0"


def test_a_second_builder_waits_for_the_first(tmp_path, wheel, runtime):
    wheel("tiny")
    environment = locate(runtime("tiny==1.0"), "cpu", tmp_path / "home")
    said: list[list[str]] = [[], []]

    async def both() -> None:
        await asyncio.gather(*(build(environment, lines.append) for lines in said))

    asyncio.run(both())

    assert environment.ready
    assert said[0][0] == "creating the environment"
    assert said[1] == ["waiting for another gateway that builds it"]


def test_a_package_that_is_nowhere_is_named(tmp_path, wheel, runtime):
    wheel("tiny", "1.0")
    wheel("tiny", "1.1")
    environment = locate(runtime("tiny==9.9"), "cpu", tmp_path / "home")
    with pytest.raises(EnvironmentUnavailable) as caught:
        asyncio.run(build(environment, lambda line: None))
    minor = environment.interpreter.minor
    assert str(caught.value) == (
        f"pip could not find tiny==9.9 for Python {minor}: the newest versions in its index are 1.0, 1.1"
    )
    assert "No matching distribution" in caught.value.detail
    assert not environment.ready

    wheel("tiny", "9.9")
    asyncio.run(build(environment, lambda line: None))
    assert environment.installed["tiny"] == "9.9"


def test_an_index_that_cannot_be_reached_is_said_to_be(tmp_path, runtime, monkeypatch):
    # Bound and not listening: connections to it are refused, and no other process gets the port meanwhile.
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{refusing.getsockname()[1]}/simple")
        monkeypatch.setenv("PIP_RETRIES", "1")
        for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(variable, raising=False)
        environment = locate(runtime("tiny==1.0"), "cpu", tmp_path / "home")
        with pytest.raises(
            EnvironmentUnavailable,
            match=r"could not reach its package index for tiny==1.0 \(connection refused\): check",
        ):
            asyncio.run(build(environment, lambda line: None))


def test_a_disk_without_room_is_said_before_anything_is_made(tmp_path, runtime):
    terabytes = shutil.disk_usage(tmp_path).total / 1e6
    environment = locate(runtime("tiny", download_mb={"cpu": terabytes}), "cpu", tmp_path / "home")
    with pytest.raises(
        EnvironmentUnavailable,
        match=r"Tiny's environment needs about [\d.]+ GB of disk space, but [\d.]+ GB is free: free some",
    ):
        asyncio.run(build(environment, lambda line: None))
    assert environment.folder is not None
    assert not environment.folder.exists()


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path, runtime):
    (tmp_path / "home").write_text("a file")
    environment = locate(runtime("tiny"), "cpu", tmp_path / "home")
    with pytest.raises(EnvironmentUnavailable, match=r"Tiny's environment cannot be created .*: set MODELPORT_HOME"):
        asyncio.run(build(environment, lambda line: None))


def test_what_is_being_built_is_not_removed(tmp_path, runtime):
    environment = locate(runtime("tiny"), "cpu", tmp_path / "home")
    assert environment.folder is not None
    environment.folder.mkdir(parents=True)
    with locked_now(environment.folder.with_name(environment.folder.name + ".lock")):
        with pytest.raises(EnvironmentUnavailable, match="is being built"):
            remove(environment.folder)
        assert environment.folder.exists()
    remove(environment.folder)
    assert not environment.folder.exists()


@pytest.mark.parametrize("marker", ["", "{", "[]", json.dumps({})])
def test_a_marker_without_content_does_not_make_it_ready(tmp_path, runtime, marker):
    environment = locate(runtime("tiny"), "cpu", tmp_path / "home")
    assert environment.folder is not None
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to(Path(os.path.realpath(environment.interpreter.path)))
    (environment.folder / "modelport.json").write_text(marker)
    assert not environment.ready
