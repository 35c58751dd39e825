"""perf_analyzer against a running gateway: its numbers and the server's statistics are plausible."""

import os
import platform
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gateway_process import Gateway
from tests.support.model_repositories import add_fake
from tests.support.perf_analyzer import measure, perf_analyzer_command
from tests.support.triton_models import add_simple

pytestmark = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="perf_analyzer's wheel is for Linux on x86-64",
)

SHORT = ("--measurement-mode", "count_windows", "--measurement-request-count", "200", "-s", "1000", "-r", "5")
WAYS = {
    "http": ("-i", "http"),
    "http, JSON": ("-i", "http", "--input-tensor-format", "json", "--output-tensor-format", "json"),
    "grpc": ("-i", "grpc"),
    "grpc, streaming": ("-i", "grpc", "--streaming", "--async"),
    "http, shared memory": ("-i", "http", "--shared-memory", "system"),
    "grpc, shared memory": ("-i", "grpc", "--shared-memory", "system"),
}


@pytest.fixture(scope="module")
def command() -> list[str]:
    return perf_analyzer_command()


@pytest.mark.runtime("onnx")
def test_every_way_to_measure(gateway: Callable[..., Gateway], tmp_path: Path, command: list[str]) -> None:
    add_simple(tmp_path / "repository")
    running = gateway(tmp_path / "repository", "--shared-memory").wait_ready()
    asked = 0
    # Not every container can write to /dev/shm. If not, the runs that need it are skipped by name at the end.
    writable = os.access("/dev/shm", os.W_OK)
    ways = {name: each for name, each in WAYS.items() if writable or "--shared-memory" not in each}
    for number, (name, arguments) in enumerate(ways.items()):
        url = running.grpc if "grpc" in arguments else running.http
        rows = measure(
            command,
            tmp_path / f"{number}.csv",
            "-m",
            "simple",
            "-u",
            url,
            "--concurrency-range",
            "1:4:3",
            *SHORT,
            *arguments,
        )
        # It orders rows by throughput, which on a busy machine may be higher for one.
        assert sorted(row["Concurrency"] for row in rows) == ["1", "4"], name
        for row in rows:
            assert float(row["Inferences/Second"]) > 10, (name, row)
            assert 0 < float(row["p50 latency"]) <= float(row["p99 latency"]), (name, row)
            # The server's average times, in microseconds: together less than the total time of the slowest requests.
            inside = sum(
                float(row[f"Server {stage}"]) for stage in ("Queue", "Compute Input", "Compute Infer", "Compute Output")
            )
            assert 0 < inside < float(row["p99 latency"]), (name, row)
        (statistics,) = running.get("/v2/models/simple/stats").json()["model_stats"]
        succeeded = statistics["inference_stats"]["success"]["count"]
        assert succeeded >= asked + 2 * 200, name
        asked = succeeded
        assert statistics["inference_stats"]["fail"]["count"] == 0
    assert statistics["inference_count"] >= asked
    assert sum(each["compute_infer"]["count"] for each in statistics["batch_stats"]) == statistics["execution_count"]
    if not writable:
        pytest.skip("all ways but those by shared memory hold; /dev/shm is not writable here")


def test_a_decoupled_model_is_measured(gateway: Callable[..., Gateway], tmp_path: Path, command: list[str]) -> None:
    """perf_analyzer sees in the configuration that the model is decoupled, and counts requests and answers."""
    add_fake(tmp_path / "repository", "three", answers=3)
    running = gateway(tmp_path / "repository").wait_ready()
    options = ("-m", "three", "-u", running.grpc, "-i", "grpc", "--streaming", "--async", "--shape", "x:1,4")
    done = subprocess.run(
        [*command, *options, "--concurrency-range", "2", *SHORT],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = {
        name: float(re.findall(rf"^\s+{name}: ([\d.]+)", done.stdout, re.MULTILINE)[0])
        for name in ("Request count", "Throughput", "Response Throughput")
    }
    assert found["Request count"] >= 200
    assert found["Response Throughput"] == pytest.approx(3 * found["Throughput"], rel=0.05)
    (statistics,) = running.get("/v2/models/three/stats").json()["model_stats"]
    assert statistics["inference_stats"]["fail"]["count"] == 0
    assert statistics["execution_count"] == statistics["inference_stats"]["success"]["count"]
