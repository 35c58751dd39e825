"""Hostile models, with real workers: each attempt is stopped and named in the log, and the neighbors notice nothing."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.generated import open_inference_pb2 as pb
from runtimes.sandbox import landlock, seccomp
from tests.e2e.test_failures import harmless, row, wrong_answers
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.load_generator import Load
from tests.support.model_repositories import add_fake
from tests.support.v2_calls import Call, Value, as_message

pytestmark = pytest.mark.skipif(
    not landlock.version() or not seccomp.supports_reports(), reason="this kernel has no Landlock or no seccomp"
)

HERE = Path(__file__).parent
STOPPED = r"worker\.{}: the sandbox stopped the model: it "
# The limit, and an allocation beyond it that the kernel would allow: the stacks of four threads are reserved as well.
LIMITED = 'memory_limit = "200MiB"\nthreads = 4\nmax_batch_size = 8\nqueue_delay_ms = 300\n'
FILL, TOO_MUCH = 5.0, 6.0
# Whoever reads a shorter page of memory than there was crashes.
TRUNCATE = """
import os
for name in os.listdir("/proc/self/fd"):
    try:
        os.ftruncate(int(name), 0)
    except OSError:
        pass
"""
OWN_THREAD = """
import os, threading
failures = []
def pin():
    try:
        os.sched_setaffinity(threading.get_native_id(), os.sched_getaffinity(0))
    except OSError as error:
        failures.append(error)
thread = threading.Thread(target=pin)
thread.start()
thread.join()
assert not failures
"""
TRIES = {str(FILL): ["allocate", 200], str(TOO_MUCH): ["allocate", 4000]}


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, listener: socket.socket) -> Iterator[Gateway]:
    top = tmp_path_factory.mktemp("sandbox")
    repository = top / "repository"
    neighbor = add_fake(repository, "neighbor")
    attempts = {
        "11": ["connect", "127.0.0.1", listener.getsockname()[1]],
        "12": ["fork"],
        "13": ["run", "/bin/true"],
        "14": ["write", str(top / "outside")],
        "15": ["read", str(neighbor)],
        "16": ["read", "/etc/passwd"],
        "17": ["chmod", str(neighbor)],
        "18": ["signal", os.getpid()],
        "19": ["python", f"import fcntl; fcntl.fcntl(0, fcntl.F_SETOWN, {os.getpid()})"],
        "20": ["python", f"import os; os.sched_setaffinity({os.getpid()}, {{0}})"],
        "21": ["python", OWN_THREAD],
        "22": ["python", TRUNCATE],
    }
    add_fake(repository, "hostile", tries=attempts)
    add_fake(repository, "limited", toml=LIMITED, tries=TRIES)
    # The requests of a stateful model are not retried, which saves a worker for each.
    add_fake(repository, "stateful", toml='memory_limit = "200MiB"\nthreads = 4\nstateful = true', tries=TRIES)
    add_fake(repository, "too_big", toml='memory_limit = "100MiB"', allocate_mb=500)
    add_fake(repository, "asks", toml="[sandbox]\nnetwork = true")
    gateway = start_gateway(repository, top)
    try:
        yield gateway.wait_ready()
    finally:
        gateway.close()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (11, r"tried to connect to 127\.0\.0\.1:{port} "),
        (12, "tried to start another process"),
        (13, "tried to run the program '/bin/true'"),
        (14, "tried to use a file that is not its own: .*/outside'"),
        (15, r"tried to use a file that is not its own: .*/neighbor/1/model\.fake\.json'"),
        (16, "tried to use a file that is not its own: .*/etc/passwd'"),
        (17, r"tried to change the file '.*/neighbor/1/model\.fake\.json'"),
        (18, "tried to send a signal to process {pid} "),
        (19, "made the system call fcntl"),
        (20, "made the system call sched_setaffinity"),
    ],
)
def test_an_attempt_is_stopped_and_named(
    running: Gateway, listener: socket.socket, tmp_path: Path, number: int, words: str
) -> None:
    mark = len(running.log)
    with Load(running.http, "/predict/neighbor", harmless, clients=2) as load:
        load.wait_answers(5)
        assert running.post("/predict/hostile", row(number)).status == 500
        load.wait_answers(5)
    assert wrong_answers(load) == []
    expected = words.format(port=listener.getsockname()[1], pid=os.getpid())
    running.wait_for(STOPPED.format("hostile") + expected, mark)
    assert running.post("/predict/hostile", row(3)).status == 200, "the worker serves on"
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_what_a_worker_shares_with_the_gateway_cannot_be_shortened(running: Gateway) -> None:
    assert running.post("/predict/hostile", row(22)).status == 200
    assert running.post("/predict/hostile", row(3)).status == 200
    assert running.post("/predict/neighbor", row(3)).status == 200
    assert running.process.poll() is None


def test_a_model_may_pin_its_own_threads(running: Gateway) -> None:
    """OpenMP and oneDNN do, by the thread's id, which a filter cannot tell from that of another process."""
    assert running.post("/predict/hostile", row(21)).status == 200


def refused(reply: Any) -> str:
    assert reply.status == 507, reply
    return str(reply.json())


def test_beyond_its_memory_limit_a_worker_ends_alone_and_its_batch_is_answered(running: Gateway) -> None:
    mark = len(running.log)
    with Load(running.http, "/predict/neighbor", harmless, clients=2) as load, ThreadPoolExecutor(4) as pool:
        rows = [row(value) for value in (1.0, FILL, 2.0, 3.0)]
        replies = list(pool.map(lambda body: running.post("/predict/limited", body), rows))
        load.wait_answers(5)
    assert wrong_answers(load) == []
    assert [reply.status for reply in replies] == [200, 507, 200, 200], replies
    assert "memory limit" in replies[1].json()["error"]
    running.wait_for(r"limited version 1: it used more memory than memory_limit = 200MiB; restarting", mark)


def test_an_allocation_that_the_kernel_refuses_gets_507_without_a_new_worker(running: Gateway) -> None:
    assert running.post("/predict/limited", row(1.0)).status == 200  # its worker has been replaced
    [before], mark = running.worker_pids("limited"), len(running.log)
    assert "ran out of memory" in refused(running.post("/predict/limited", row(TOO_MUCH)))
    running.wait_for(r"worker\.limited: an allocation failed: memory_limit = 200MiB", mark)
    assert running.worker_pids("limited") == [before]
    assert running.post("/predict/limited", row(1.0)).status == 200


def test_each_dialect_has_its_own_form_of_that_answer(running: Gateway) -> None:
    v2 = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [FILL] * 4}]}
    assert "memory limit" in refused(running.post("/v2/models/stateful/infer", v2))
    assert "memory limit" in refused(running.post("/v1/models/stateful:predict", {"instances": [[FILL] * 4]}))
    with grpc.insecure_channel(running.grpc) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        with pytest.raises(grpc.RpcError) as caught:
            infer(as_message(Call("stateful", (Value("x", "FP32", (1, 4), [FILL] * 4),)), raw=True), timeout=60)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "memory limit" in caught.value.details()


def test_a_model_that_does_not_fit_is_unavailable(running: Gateway) -> None:
    reason = running.index()["too_big", "1"]
    assert reason["state"] == "UNAVAILABLE"
    assert "it needs more memory than its memory_limit of 100MiB" in reason["reason"]


def test_an_exception_that_the_operator_does_not_allow_makes_a_model_unavailable(running: Gateway) -> None:
    reason = running.index()["asks", "1"]
    assert reason["state"] == "UNAVAILABLE"
    assert "start it with --allow-sandbox-exceptions" in reason["reason"]


def test_limits_and_protections_are_reported(running: Gateway) -> None:
    config = running.get("/v2/models/limited/config").json()
    assert config["parameters"]["memory_limit"] == {"string_value": str(200 << 20)}
    found = running.get("/v2/security").json()
    assert found["sandbox_files"] == {"enforced": True, "reason": ""}
    metrics = running.get("/metrics").body.decode()
    for name, each in found.items():
        assert f'modelport_security_enforced{{feature="{name}"}} {float(each["enforced"])}' in metrics


# The operators' own names for what they may not do. `{outside}` is a file that must not exist afterwards.
OPERATORS = {
    "torchscript": {11.0: "/etc/passwd", 12.0: "{outside}"},
    "savedmodel": {11.0: "/etc/passwd", 12.0: "{outside}", 13.0: "list the folder '/etc'"},
}


@pytest.mark.parametrize("runtime", [pytest.param(name, marks=pytest.mark.runtime(name)) for name in OPERATORS])
def test_operators_of_frameworks_are_stopped_too(
    runtime: str, runtime_python: Callable[[str], Path], gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    repository, outside = tmp_path / "repository", tmp_path / "outside"
    add_fake(repository, "neighbor")
    command = [runtime_python(runtime), HERE / "make_hostile.py", runtime, repository / "hostile" / "1", outside]
    subprocess.run(command, check=True, capture_output=True)
    started = gateway(repository).wait_ready()
    assert started.infer("hostile", {"x": [[1.0] * 4]})["y"] == [[2.0] * 4]
    mark = len(started.log)
    for number, words in OPERATORS[runtime].items():
        reply = started.post("/predict/hostile", row(number))
        if reply.status == 200:  # MatchingFiles: nothing was found
            assert reply.json()["outputs"]["y"] == [[2 * number] * 4]
        started.wait_for(STOPPED.format("hostile") + ".*" + words.format(outside=outside), mark)
    assert not outside.exists()
    assert started.infer("hostile", {"x": [[1.0] * 4]})["y"] == [[2.0] * 4]
    assert started.infer("neighbor", {"x": [[1.0] * 4]})["y"] == [[2.0] * 4]
