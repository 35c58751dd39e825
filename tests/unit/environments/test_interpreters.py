"""Finding Pythons, real ones and fake ones: scripts that answer the probe like the Python that a test needs."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.environments import interpreters, probe
from gateway.environments.environment import Environment, EnvironmentUnavailable, locate
from gateway.environments.runtime import PLATFORMS
from gateway.environments.versions import humanize, newest_within
from tests.support.ended_processes import wait_ended

# No machine has these versions, so only those that the test made are found.
UNHEARD_OF = ">=3.50,<3.60"


@pytest.fixture(autouse=True)
def _only_what_the_test_made(tmp_path, monkeypatch):
    for variable in ("PYENV_ROOT", "UV_PYTHON_INSTALL_DIR", "XDG_DATA_HOME", "HOMEBREW_PREFIX"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def fake(tmp_path):
    """fake("bin/python3.51", minor=51) writes a script that claims to be CPython 3.51.2 for this machine."""

    def make(path: str, minor: int = 0, body: str = "", **said: object) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        ours = interpreters.own()
        assert ours is not None
        answer = {
            "path": str(file),
            "version": [3, minor, 2],
            "implementation": "cpython",
            "ordinary": True,
            "has_venv": True,
            "system": ours.system,
            "machine": ours.machine,
            "libc": ours.libc,
        } | said
        file.write_text(body or f"#!/bin/sh\necho a banner\necho '{json.dumps(answer)}'\n")
        file.chmod(0o755)
        return file

    return make


def test_the_gateways_own_base_interpreter_comes_first(fake):
    ours = f">={sys.version_info[0]}.{sys.version_info[1]}"
    fake("bin/python3.51", 51)
    found = interpreters.find(ours, "Tiny")
    assert found.version == tuple(sys.version_info[:3])
    assert found.has_venv
    prefix = subprocess.check_output([found.path, "-Ic", "import sys; print(sys.prefix)"], text=True).strip()
    assert prefix == sys.base_prefix


def test_its_own_is_found_on_a_busy_machine_too(fake, monkeypatch):
    """Another one would get other environments."""
    monkeypatch.setattr(interpreters, "PROBE_TIMEOUT_S", 1e-6)
    interpreters._probe.cache_clear()
    fake("bin/python3.51", 51)
    found = interpreters.find(f">={sys.version_info[0]}.{sys.version_info[1]}", "Tiny")
    assert found.version == tuple(sys.version_info[:3])


def test_others_are_found_on_a_busy_machine_too(fake, tmp_path, monkeypatch):
    """What they wait for because of others is not the sign of one that hangs."""
    gate, looked_at = tmp_path / "gate", list[int]()
    os.mkfifo(gate)
    python = fake("bin/python3.51", 51)
    python.write_text(python.read_text().replace("echo a banner", f"read line <'{gate}'"))

    def wants_a_processor(pid: int) -> probe.Activity:
        with suppress(OSError):  # it does not read yet, or it is another one
            writer = os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
            looked_at.append(os.write(writer, b"go on\n"))
            os.close(writer)
        return probe.Activity(sleeps=False, cpu_s=0.0)

    monkeypatch.setattr(interpreters, "PROBE_TIMEOUT_S", 1e-6)
    monkeypatch.setattr(probe, "activity_of", wants_a_processor)
    assert interpreters.find(UNHEARD_OF, "Tiny").path == python
    assert looked_at, "it answered before it was looked at"


def test_what_one_that_hangs_has_started_ends_with_it(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(interpreters, "PROBE_TIMEOUT_S", 0.2)
    started = tmp_path / "started"
    fake(
        "bin/python3.59",
        body=f"#!/bin/sh\n/bin/sleep 1000 &\necho $! >{started}.draft\nmv {started}.draft {started}\nwait\n",
    )
    works = fake("bin/python3.51", 51)
    assert interpreters.find(UNHEARD_OF, "Tiny").path == works
    if started.exists():
        assert wait_ended([int(started.read_text())]) == []


def test_a_process_that_sleeps_and_one_that_computes():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as sleeping:
        while not probe.activity_of(sleeping.pid).sleeps:
            assert sleeping.poll() is None
        assert sleeping.stdin is not None
        sleeping.stdin.close()
    computing = probe.activity_of(os.getpid())
    assert computing.cpu_s > 0
    if sys.platform.startswith("linux"):
        assert not computing.sleeps


def test_else_the_newest_that_fits_from_every_place_that_people_use(fake, tmp_path):
    fake("bin/python3.60", 60)
    fake("bin/python3.52", 52)
    fake("PYENV_ROOT/versions/3.53.2/bin/python3.53", 53)
    fake("HOMEBREW_PREFIX/opt/python@3.54/bin/python3.54", 54)
    newest = fake("UV_PYTHON_INSTALL_DIR/cpython-3.55.2-linux/bin/python3.55", 55)
    assert interpreters.find(UNHEARD_OF, "Tiny").path == newest
    for below, path in ((55, "opt/python@3.54"), (54, "3.53.2"), (53, "python3.52")):
        assert path in str(interpreters.find(f">=3.50,<3.{below}", "Tiny").path)


def test_what_does_not_run_is_passed_over(fake, monkeypatch):
    monkeypatch.setattr(interpreters, "PROBE_TIMEOUT_S", 1.0)
    fake("bin/python3.59", body="#!/bin/sh\necho 'pyenv: python3.59: command not found' >&2\nexit 127\n")
    fake("bin/python3.58", body="#!/bin/sh\nexec /bin/sleep 1000\n")
    fake("bin/python3.57", body="#!/bin/sh\necho Python 3.57\n")
    fake("bin/python3.56", body="not a program")
    fake("bin/python3.55", 55).chmod(0o644)
    works = fake("bin/python3.51", 51)
    assert interpreters.find(UNHEARD_OF, "Tiny").path == works


def test_pythons_that_wheels_are_not_made_for_are_passed_over(fake):
    fake("bin/python3.59", 59, ordinary=False)
    fake("bin/python3.58", 58, machine="vax")
    works = fake("bin/python3.51", 51)
    assert interpreters.find(UNHEARD_OF, "Tiny").path == works


def test_the_sentence_when_there_is_none(fake):
    fake("bin/python3.41", 41)
    with pytest.raises(EnvironmentUnavailable) as caught:
        interpreters.find(UNHEARD_OF, "Tiny")
    sentence = str(caught.value)
    assert sentence.startswith("Tiny needs Python 3.50 to 3.59, found 3.")
    assert sentence.endswith("3.41: install one, or run 'uv python install 3.59'")


def test_one_that_lacks_ensurepip_is_the_last_resort_and_says_so(fake):
    fake("bin/python3.52", 52, has_venv=False)
    with pytest.raises(EnvironmentUnavailable) as caught:
        interpreters.find(UNHEARD_OF, "Tiny")
    assert str(caught.value) == (
        "the installed Python 3.52 lacks ensurepip: run 'apt install python3.52-venv' or 'uv python install 3.52'"
    )
    older = fake("bin/python3.51", 51)
    assert interpreters.find(UNHEARD_OF, "Tiny").path == older


def test_each_file_is_run_once_until_it_changes(fake, tmp_path):
    runs = tmp_path / "runs"
    script = fake("bin/python3.51", 51)
    script.write_text(script.read_text().replace("echo a banner", f"echo x >> {runs}"))
    for _ in range(3):
        assert interpreters.find(UNHEARD_OF, "Tiny").minor == "3.51"
    assert runs.read_text() == "x\n"
    fake("bin/python3.51", 52)
    os.utime(script, ns=(1, 1))
    assert interpreters.find(UNHEARD_OF, "Tiny").minor == "3.52"


def test_several_names_of_one_python_are_one(fake, tmp_path):
    runs = tmp_path / "runs"
    script = fake("bin/python3.51", 51)
    script.write_text(script.read_text().replace("echo a banner", f"echo x >> {runs}"))
    for name in ("python", "python3"):
        (script.parent / name).symlink_to(script)
    interpreters.find(UNHEARD_OF, "Tiny")
    assert runs.read_text() == "x\n"


def test_below_a_virtual_environment_is_its_base_but_a_chosen_one_stays_itself(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    inspected = interpreters.inspect(python)
    assert inspected is not None
    assert inspected.path == Path(os.path.realpath(python))
    kept = interpreters.chosen(python)
    assert kept is not None
    assert kept.path == python


def test_an_external_python_is_the_environment(tmp_path, runtime):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    nowhere = runtime("tiny", pythons="==2.7.*", platforms=("macos-x86_64",), requirements={})
    environment = locate(nowhere, "cuda", tmp_path / "home", python=python, external=True)
    assert isinstance(environment, Environment)
    assert environment.ready
    assert environment.python == python
    assert environment.folder is None
    assert environment.size_bytes() == 0
    python.unlink()
    assert not environment.ready
    with pytest.raises(EnvironmentUnavailable, match="the Python set for Tiny does not run"):
        locate(nowhere, "cuda", tmp_path / "home", python=python, external=True)


def test_an_external_python_that_was_built_here_tells_what_for(tmp_path, runtime):
    """The CUDA image has MXNet's environment for the CPU, for which device = "auto" must find no GPU."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    assert locate(runtime("tiny"), "cuda", tmp_path / "home", python=python, external=True).accelerator == "cuda"
    (tmp_path / "venv" / "modelport.json").write_text('{"accelerator": "cpu"}')
    assert locate(runtime("tiny"), "cuda", tmp_path / "home", python=python, external=True).accelerator == "cpu"


def test_a_chosen_python_must_fit(tmp_path, runtime, fake):
    with pytest.raises(EnvironmentUnavailable, match=r"Tiny needs Python 3\.50 to 3\.59, but the one given is 3\.41"):
        locate(runtime("tiny", pythons=UNHEARD_OF), "cpu", tmp_path, python=fake("bin/python3.41", 41))
    with pytest.raises(EnvironmentUnavailable, match="lacks venv or ensurepip"):
        locate(runtime("tiny", pythons=UNHEARD_OF), "cpu", tmp_path, python=fake("bin/python3.51", 51, has_venv=False))
    python = fake("bin/python3.52", 52)
    assert locate(runtime("tiny", pythons=UNHEARD_OF), "cpu", tmp_path, python=python).interpreter.path == python


def test_a_platform_without_wheels_is_said(tmp_path, runtime, fake):
    ours = interpreters.own()
    assert ours is not None
    others = tuple(platform for platform in PLATFORMS if platform != ours.platform)
    # Even where no Python fits either: installing one would not help.
    with pytest.raises(EnvironmentUnavailable, match=f"^Tiny has no wheel for .* {ours.machine}$"):
        locate(runtime("tiny", pythons=UNHEARD_OF, platforms=others), "cpu", tmp_path)
    if ours.system == "linux":
        musl = fake("bin/python3.51", 51, libc="musl")
        with pytest.raises(EnvironmentUnavailable, match=f"Tiny has no wheel for Linux with musl {ours.machine}"):
            locate(runtime("tiny", pythons=UNHEARD_OF, platforms=(ours.platform,)), "cpu", tmp_path, python=musl)


def test_the_folder_is_named_by_what_decides_the_content(tmp_path, runtime, fake):
    def folder(*requirements: str, accelerator: str = "cpu", python: Path | None = None) -> Path | None:
        wanted = runtime(pythons=">=3.5", requirements={"cpu": requirements, "cuda": requirements})
        return locate(wanted, accelerator, tmp_path, python=python).folder

    one = folder("tiny==1.0")
    assert one is not None
    assert one.parent == tmp_path / "environments"
    assert one.name.startswith("tiny-cpu-")
    assert one == folder("tiny==1.0")
    different = {
        one,
        folder("tiny==1.1"),
        folder("tiny==1.0", accelerator="cuda"),
        folder("tiny==1.0", python=fake("bin/python3.51", 51)),
        folder("tiny==1.0", python=fake("bin/python3.52", 52)),
    }
    assert len(different) == 5


def test_a_framework_without_packages_for_cuda_gets_those_for_the_cpu(tmp_path, runtime):
    assert locate(runtime("tiny"), "cuda", tmp_path) == locate(runtime("tiny"), "cpu", tmp_path)


def test_a_framework_without_packages_for_the_cpu_is_said(tmp_path, runtime):
    only_cuda = replace(runtime("tiny"), requirements={"cuda": ("tiny==1.0",)})
    with pytest.raises(EnvironmentUnavailable, match="Tiny has no packages for the accelerator cpu: use cuda"):
        locate(only_cuda, "cpu", tmp_path)


@pytest.mark.parametrize(
    ("pythons", "words", "install"),
    [
        (">=3.8,<3.12", "3.8 to 3.11", "3.11"),
        ("==3.6.*", "3.6", "3.6"),
        (">=3.8", "3.8 or newer", "3.8"),
        (">=3.9,<4", "3.9 or newer", "3.9"),
        ("<3.12", "3.11 or older", "3.11"),
        (">=3.8,!=3.9.*,<3.11", ">=3.8,!=3.9.*,<3.11", "3.10"),
        ("==3.11.7", "==3.11.7", "3.11.7"),
    ],
)
def test_ranges_in_words(pythons, words, install):
    assert humanize(pythons) == words
    assert newest_within(pythons) == install
