"""Locks: what `modelport runtimes lock` writes by the real uv, and what the real pip builds from it."""

import asyncio
import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import runtimes
from gateway.commands import lock as command
from gateway.commands.lock import LockRequest
from gateway.commands.runtimes import list_runtimes
from gateway.environments import lockfile
from gateway.environments.builder import Builder
from gateway.environments.environment import Environment, build, locate
from gateway.environments.errors import CannotLock, EnvironmentUnavailable
from gateway.environments.lockfile import Lock, Pin, Target
from gateway.environments.pip import reported_hashes
from gateway.environments.resolve import resolve
from gateway.environments.runtime import converters, discover
from tests.support.package_index import package_index


@pytest.fixture
def index(tmp_path, monkeypatch):
    """pip's configured index, with the wheels that `wheel` makes. Yields hashes that it states in place of theirs."""
    (tmp_path / "wheels").mkdir(exist_ok=True)
    for variable in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    stated: dict[str, str] = {}
    with package_index(tmp_path / "wheels", stated) as url:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", url)
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        monkeypatch.setenv("UV_NO_CACHE", "1")
        yield stated


@pytest.fixture
def known(monkeypatch):
    """known(runtime) makes it the only one that commands find."""

    def know(runtime):
        for module in ("gateway.commands.lock", "gateway.commands.runtimes"):
            monkeypatch.setattr(f"{module}.discover", lambda: {"tiny": runtime})
            monkeypatch.setattr(f"{module}.converters", dict)
        return runtime

    return know


def target_of(environment: Environment) -> Target:
    return Target("cpu", environment.interpreter.minor, environment.interpreter.platform)


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def version_in(environment: Environment) -> str:
    code = "import tiny, base; print(tiny.VERSION, base.VERSION)"
    return subprocess.check_output([environment.python, "-I", "-c", code], text=True).strip()


def write_lock(runtime, *pins: Pin) -> None:
    target = target_of(locate(runtime, "cpu", Path()))
    (runtime.folder / "locks").mkdir(exist_ok=True)
    (runtime.folder / "locks" / target.file_name).write_text(Lock(pins).text())


def test_a_build_from_a_lock_installs_what_is_locked(tmp_path, wheel, runtime, index, known, monkeypatch, capsys):
    files = [wheel("tiny", needs="base"), wheel("base")]
    wanted = known(runtime("tiny==1.0"))
    # What only this machine has, which must not get into a lock: another build of tiny, and a newer base.
    wheel("tiny", says="local", needs="base", folder="local")
    wheel("base", "1.5", folder="local")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "local"))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", (tmp_path / "local").as_uri())
    home = tmp_path / "home"

    assert command.lock(LockRequest(("tiny",), "cpu"), home) == 0

    target = target_of(locate(wanted, "cpu", home))
    assert capsys.readouterr().out == f"tiny: locked 2 packages for {target}\n"
    (file,) = (tmp_path / "locks").iterdir()
    assert file.name == f"cpu-cp{target.python.replace('.', '')}-{target.platform}.txt"
    made = lockfile.parse(file.read_text())
    assert made.pins == (Pin("base", "1.0", (sha256(files[1]),)), Pin("tiny", "1.0", (sha256(files[0]),)))
    # A release after the lock was made.
    wheel("base", "2.0")

    environment = locate(wanted, "cpu", home, require_lock=True)
    asyncio.run(build(environment, lambda line: None))

    assert environment.lock == made
    assert version_in(environment) == "1.0 1.0"
    assert environment.hashes == {"tiny": sha256(files[0]), "base": sha256(files[1])}
    list_runtimes(home, "cpu", {})
    assert " yes " in capsys.readouterr().out
    # The versions of a lock stay until --upgrade.
    assert command.lock(LockRequest((), "cpu"), home) == 0
    assert lockfile.parse(file.read_text()) == made
    assert command.lock(LockRequest((), "cpu", upgrade=True), home) == 0
    assert [pin.version for pin in lockfile.parse(file.read_text()).pins] == ["2.0", "1.0"]
    assert locate(wanted, "cpu", home).folder != environment.folder


def test_a_file_that_was_altered_after_locking_is_not_installed(tmp_path, wheel, runtime, index):
    original = wheel("tiny")
    wanted = runtime("tiny==1.0")
    write_lock(wanted, Pin("tiny", "1.0", (sha256(original),)))
    good = original.read_bytes()
    wheel("tiny", says="altered")
    environment = locate(wanted, "cpu", tmp_path / "home")

    for each in ({}, {original.name: hashlib.sha256(good).hexdigest()}):  # as the index states it: altered, original
        index.update(each)
        with pytest.raises(EnvironmentUnavailable) as caught:
            asyncio.run(build(environment, lambda line: None))
        assert str(caught.value) == (
            "the file that pip received for tiny==1.0 does not match the hash in the lock: it may have been tampered "
            "with, so check the package index that pip is configured for"
        )
        assert not environment.ready
        assert not list(environment.folder.glob("lib/*/site-packages/tiny*"))

    original.write_bytes(good)
    asyncio.run(build(environment, lambda line: None))
    assert environment.ready


def test_an_environment_that_was_built_without_a_lock_stays_in_use(tmp_path, wheel, runtime, index, known, capsys):
    original = wheel("tiny")
    wanted, home = known(runtime("tiny==1.0")), tmp_path / "home"
    plain = locate(wanted, "cpu", home)
    asyncio.run(build(plain, lambda line: None))
    list_runtimes(home, "cpu", {})
    assert " no " in capsys.readouterr().out
    wheel("tiny", "1.1")

    # The versions of what is built are preferred to newer ones.
    assert command.lock(LockRequest((), "cpu"), home) == 0
    assert locate(wanted, "cpu", home) == plain
    required = locate(wanted, "cpu", home, require_lock=True)
    assert required.folder != plain.folder
    assert required.lock.pins == (Pin("tiny", "1.0", (sha256(original),)),)

    # What is built is not what the index has: its lock would describe another environment.
    original.unlink()
    loose = known(replace(wanted, requirements={"cpu": ("tiny",)}))
    marker = plain.folder / "modelport.json"
    unlocked = locate(replace(loose, folder=tmp_path / "elsewhere"), "cpu", home)
    unlocked.python.parent.mkdir(parents=True)
    unlocked.python.symlink_to(plain.python)
    (unlocked.folder / marker.name).write_text(marker.read_text())
    (tmp_path / "locks" / target_of(plain).file_name).unlink()
    capsys.readouterr()
    assert command.lock(LockRequest((), "cpu"), home) == 1
    assert "tiny 1.0 is installed here, but the index has only 1.1" in capsys.readouterr().err


def test_without_a_lock_require_locks_refuses_to_build(tmp_path, runtime):
    wanted = runtime("tiny==1.0")
    target = target_of(locate(wanted, "cpu", tmp_path))
    with pytest.raises(EnvironmentUnavailable) as caught:
        locate(wanted, "cpu", tmp_path, require_lock=True)
    assert str(caught.value) == (
        f"Tiny has no lock for {target}: run 'modelport runtimes lock tiny', or turn require_locks off"
    )
    with pytest.raises(EnvironmentUnavailable, match="has npm packages, which no lock covers"):
        locate(replace(wanted, npm=("left-pad@1.0",)), "cpu", tmp_path, require_lock=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tiny==1.0\n", "is damaged: run 'modelport runtimes lock tiny', or delete the lock"),
        ("tiny>=1.0 --hash=sha256:" + "0" * 64, "is damaged"),
        ("--index-url http://127.0.0.1:9\ntiny==1.0 --hash=sha256:" + "0" * 64, "is damaged"),
        ("tiny==1.0 --hash=sha256:0", "is damaged"),
        ("", "is damaged"),
        ("tiny==0.9 --hash=sha256:" + "0" * 64, "does not contain 'tiny==1.0': run"),
        ("other==1.0 --hash=sha256:" + "0" * 64, "does not contain 'tiny==1.0': run"),
    ],
)
def test_a_lock_that_cannot_be_used_is_an_error_and_not_ignored(tmp_path, runtime, text, reason):
    wanted = runtime("tiny==1.0", "absent==1.0; sys_platform == 'nowhere'")
    write_lock(wanted, Pin("tiny", "1.0", ("0" * 64,)))
    (file,) = (tmp_path / "locks").iterdir()
    assert locate(wanted, "cpu", tmp_path).lock is not None
    file.write_text(text)
    with pytest.raises(EnvironmentUnavailable, match=reason):
        locate(wanted, "cpu", tmp_path)


def test_what_cannot_be_locked_says_why(tmp_path, wheel, runtime, index, known, monkeypatch, capsys):
    wheel("tiny", needs="nvidia_tiny")
    wheel("nvidia_tiny")
    (tmp_path / "wheels" / "source-1.0.tar.gz").write_bytes(b"only a source distribution")
    target = target_of(locate(runtime("tiny"), "cpu", tmp_path))
    for wanted, reason in [
        (runtime("tiny==1.0"), "a build for CUDA, with nvidia-tiny and 0 more packages"),
        (runtime("tiny==9.0"), "uv could not resolve its packages: .*tiny==9.0"),
        (runtime("source==1.0"), "uv could not resolve its packages: .*source==1.0 has no usable wheels"),
        (runtime("tiny==1.0", npm=("left-pad@1.0",)), "npm packages"),
    ]:
        with pytest.raises(CannotLock, match=reason):
            resolve(wanted, target, {})
    with pytest.raises(CannotLock, match="wheels for linux-musl-x86_64 cannot be locked"):
        resolve(runtime("tiny"), replace(target, platform="linux-musl-x86_64"), {})
    for variable, value, reason in [
        ("PIP_INDEX_URL", tmp_path.as_uri(), "is a folder"),
        ("PIP_NO_INDEX", "1", "without an index"),
    ]:
        monkeypatch.setenv(variable, value)
        with pytest.raises(CannotLock, match=reason):
            resolve(runtime("tiny"), target, {})
    known(runtime("tiny"))
    for request, reason in [
        (LockRequest(("nothing",), "cpu"), "there is no runtime 'nothing': installed are tiny"),
        (LockRequest((), "cpu", pythons=("2.7",)), "tiny is not locked: it does not support Python 2.7"),
        (LockRequest((), "cpu", pythons=("x",)), "tiny is not locked: it does not support Python x"),
    ]:
        assert command.lock(request, tmp_path) == 1
        assert reason in capsys.readouterr().err


def test_the_gateway_refuses_too(tmp_path, runtime):
    builder = Builder(tmp_path, "cpu", {}, frozenset(), lambda: None, require_locks=True)
    with pytest.raises(EnvironmentUnavailable, match="Tiny has no lock for cpu, "):
        asyncio.run(builder.environment(runtime("tiny==1.0")))
    assert not builder.available(runtime("tiny==1.0"))


def test_every_lock_of_the_project_is_for_its_runtime():
    known = {**discover(), **converters()}
    files = {file for runtime in known.values() for file in runtime.folder.glob("locks/*")}
    assert files == set(Path(runtimes.__file__).parent.rglob("locks/*"))
    assert files
    for name, runtime in known.items():
        for file in runtime.folder.glob("locks/*"):
            accelerator, python, platform = file.stem.split("-", 2)
            target = Target(accelerator, f"3.{python.removeprefix('cp3')}", platform)
            assert file.name == target.file_name
            assert platform in runtime.platforms, (name, file.name)
            made = lockfile.parse(file.read_text())
            assert made is not None, (name, file.name)
            assert made.text() == file.read_text()
            assert not made.missing(runtime, target), (name, file.name)
            # Versions with a local part, such as 2.13.0+cpu, are not those of the public index.
            assert not [pin for pin in made.pins if "+" in pin.version], (name, file.name)


def test_what_pip_reports_is_read():
    install = [
        {"metadata": {"name": "Tiny_One"}, "download_info": {"archive_info": {"hashes": {"sha256": "ab"}}}},
        {"metadata": {"name": "folder"}, "download_info": {"dir_info": {}}},
    ]
    assert reported_hashes(json.dumps({"version": "1", "install": install})) == {"tiny-one": "ab"}
