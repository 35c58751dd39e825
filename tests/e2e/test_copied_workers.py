"""Workers that are copies of one process: what they share with it and with each other harms none of them."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtimes.sandbox import landlock, seccomp
from tests.e2e.test_failures import harmless, row, wrong_answers
from tests.support.ended_processes import wait_ended
from tests.support.gateway_process import Gateway
from tests.support.load_generator import Load
from tests.support.model_repositories import add_fake

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux copies workers")

Start = Callable[..., Gateway]
ZYGOTE = r'modelport_process_open_fds\{pid="(\d+)",process="zygote-fake-\d+"\}'
SPARE = r'modelport_process_open_fds\{pid="(\d+)",process="zygote-fake-\d+-spare"\}'
# On processes that started at about the same time: the one that it is a copy of, and other copies. None of
# the attempts would harm them if it succeeded. What denies these also denies tracing.
ATTACK = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
own, reached = os.getpid(), []
part = (ctypes.c_void_p * 2)(1, 1)  # one byte at an address that no process has
others = [pid for pid in range(max(own - 100, 2), own + 100) if pid != own]
for pid in others:
    for name in ("mem", "maps", "fd", "environ", "root"):
        try:
            os.close(os.open("/proc/%d/%s" % (pid, name), os.O_RDONLY))
            reached.append((pid, name))
        except OSError:
            pass
    if libc.process_vm_readv(pid, part, 1, part, 1, 0) >= 0 or ctypes.get_errno() == 14:
        reached.append((pid, "process_vm_readv"))
    try:
        os.kill(pid, 0)
        reached.append((pid, "kill"))
    except OSError:
        pass
assert not reached, reached
"""
# Functions of modules that the copy shares with others, and bytes of their code.
TAMPER = """
import ctypes, json, numpy
from runtimes import checks, wire
class Broken:
    def __call__(self, *args, **named): raise RuntimeError("tampered")
for module in (checks, wire, json, numpy):
    ctypes.memset(id(module.__name__) + 48, ord("X"), 3)
checks.check_input = json.load = numpy.frombuffer = Broken()
"""


def zygotes(running: Gateway) -> list[int]:
    return [int(pid) for pid in re.findall(ZYGOTE, running.get("/metrics").body.decode())]


def test_models_load_and_serve_while_the_process_that_is_copied_is_killed(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", seconds_per_batch=0.002)
    running = gateway(repository, "--poll-s", "0.1").wait_ready()
    (worker,) = running.worker_pids("m")
    killed = set()
    with Load(running.http, "/predict/m", harmless, clients=4) as load:
        for number in range(4):
            for pid in zygotes(running):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            names = [f"new-{number}-{each}" for each in range(3)]
            for name in names:
                add_fake(repository, name, load_seconds=0.05)
            for name in names:
                running.wait_served(name)
            load.wait_answers(20)
    assert wrong_answers(load) == []
    assert running.worker_pids("m") == [worker], "a worker outlives the process that it is a copy of"
    assert len(killed) > 1
    left = zygotes(running)
    assert len(left) == 1
    assert not killed & set(left)
    running.process.kill()
    running.process.wait(60)
    assert wait_ended(left) == []


def spare(running: Gateway, other_than: int = 0) -> int:
    """Return the process that waits for its model, once there is one."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        found = re.search(SPARE, running.get("/metrics").body.decode())
        if found and int(found[1]) != other_than:
            return int(found[1])
    raise AssertionError("there is no spare")


@pytest.mark.skipif(
    not landlock.version() or not seccomp.supports_reports(), reason="this kernel has no Landlock or no seccomp"
)
def test_a_worker_that_was_made_in_advance_is_confined_to_its_own_model(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    one_thread = "threads = 1"  # copies of one process have the same number
    add_fake(repository, "first", toml=one_thread)
    tries = {"11": ["python", ATTACK], "12": ["read", str(tmp_path / "secret")]}
    add_fake(repository, "hostile", toml=one_thread, tries=tries)
    (tmp_path / "secret").write_text("of somebody else")
    running = gateway(repository, "--load", "on_demand").wait_ready()
    assert running.post("/predict/first", row(3)).status == 200
    made = spare(running)
    assert running.post("/predict/hostile", row(3)).status == 200
    assert running.worker_pids("hostile") == [made]
    spare(running, other_than=made)
    assert running.post("/predict/hostile", row(11)).status == 200, "it reaches neither the next spare nor others"
    assert running.post("/predict/hostile", row(12)).status == 500
    running.wait_for("the sandbox stopped the model.*secret")


@pytest.mark.skipif(
    not landlock.version() or not seccomp.supports_reports(), reason="this kernel has no Landlock or no seccomp"
)
def test_a_hostile_copy_reaches_neither_the_others_nor_what_they_share(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "neighbor")
    add_fake(repository, "hostile", tries={"11": ["python", ATTACK], "12": ["python", TAMPER]})
    running = gateway(repository, "--poll-s", "0.1").wait_ready()
    before = zygotes(running)
    assert len(before) == 1
    assert running.post("/predict/hostile", row(11)).status == 200
    assert running.post("/predict/hostile", row(3)).status == 200
    assert running.post("/predict/hostile", row(12)).status == 200
    assert running.post("/predict/hostile", row(3)).status == 500, "it has only harmed itself"
    assert running.post("/predict/neighbor", row(3)).status == 200
    add_fake(repository, "next")
    running.wait_served("next")
    assert running.post("/predict/next", row(3)).status == 200
    assert zygotes(running) == before


def test_each_copy_of_pytorch_draws_its_own_random_numbers(
    gateway: Start, runtime_python: Callable[[str], Path], tmp_path: Path
) -> None:
    """Its generator is seeded when it is imported."""
    repository = tmp_path / "repository"
    artifact = repository / "random" / "1" / "model.pt"
    artifact.parent.mkdir(parents=True)
    (repository / "random" / "model.toml").write_text(
        'inputs = [{name = "x", datatype = "FP32", shape = [-1, 1]}]\n'
        'outputs = [{name = "y", datatype = "FP32", shape = [-1, 1]}]\n'
    )
    code = (
        "import torch, sys\n"
        "class Draw(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x * 0 + torch.rand_like(x)\n"
    )
    script = tmp_path / "make.py"
    script.write_text(code + "torch.jit.script(Draw()).save(sys.argv[1])\n")
    subprocess.run([runtime_python("torchscript"), script, artifact], check=True)
    running = gateway(repository).wait_ready()
    draws: list[Any] = []
    for _ in range(3):
        draws.append(running.post("/predict/random", {"inputs": {"x": [[0.0]]}}).json()["outputs"]["y"][0][0])
        mark = len(running.log)
        os.kill(running.worker_pids("random")[0], signal.SIGKILL)
        running.wait_for("random version 1: its worker was killed by SIGKILL", mark)
    assert len(set(draws)) == 3, draws
