"""The metrics as Prometheus itself reads them, over several fronts and their restarts."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.environments import skip_or_fail
from tests.support.gateway_process import Gateway
from tests.support.load_generator import Load
from tests.support.model_repositories import add_fake

Start = Callable[..., Gateway]

PROMETHEUS = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: own-port
    static_configs: [{{targets: ["{metrics}"]}}]
  - job_name: front
    static_configs: [{{targets: ["{http}"]}}]
"""


def needed(program: str) -> str:
    found = shutil.which(program)
    if not found:
        skip_or_fail(f"no {program} on PATH: 'make apt' installs Debian's")
    assert found
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def row(number: int) -> dict[str, object]:
    return {"inputs": {"x": [[number + 1000] * 4]}}


def text(running: Gateway) -> str:
    return running.get("/metrics").body.decode()


def value(metrics: str, name: str, **labels: str) -> float:
    """Return one sample, whatever the order of its labels, or 0 for a series that does not exist yet."""
    for found, listed, number in re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", metrics, re.M):
        if found == name and dict(re.findall(r'(\w+)="([^"]*)"', listed)) == labels:
            return float(number)
    assert f"# TYPE {name}" in metrics, f"{name} is not a metric"
    return 0.0


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[[Gateway], str]]:
    """Start the real server for a gateway's metrics, and return its address."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(running: Gateway) -> str:
        config = tmp_path / "prometheus.yml"
        config.write_text(PROMETHEUS.format(metrics=running.metrics, http=running.http))
        address = f"127.0.0.1:{free_port()}"
        processes.append(
            subprocess.Popen(
                [
                    needed("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                    f"--web.listen-address={address}",
                ],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
        )  # fmt: skip
        return address

    yield start
    for process in processes:
        process.terminate()
        process.wait(60)


def query(address: str, expression: str) -> list[dict[str, object]]:
    url = f"http://{address}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return list(json.load(answer)["data"]["result"])
    except OSError:
        return []  # it is still starting


def eventually(address: str, expression: str, job: str, tries: int = 20_000) -> float:
    """Return the value once Prometheus has one; each try is a query."""
    for _ in range(tries):
        for result in query(address, expression):
            if result["metric"]["job"] == job:  # type: ignore[index]
                return float(result["value"][1])  # type: ignore[index]
    raise AssertionError(f"Prometheus never had {expression} of {job}")


def test_prometheus_scrapes_the_gateway(gateway: Start, tmp_path: Path, prometheus: Callable[[Gateway], str]) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m")
    running = gateway(repository, "--fronts", "2").wait_ready()
    with Load(running.http, "/predict/m", row, clients=4, most=50) as load:
        load.wait_total(200)
    address = prometheus(running)
    for job in ("own-port", "front"):
        assert eventually(address, 'modelport_requests_total{outcome="success",model="m"} == 200', job) == 200
        assert eventually(address, 'modelport_request_duration_seconds_count{model="m"} == 200', job) == 200
        assert eventually(address, 'nv_inference_request_success{model="m"} == 200', job) == 200
        quantile = "histogram_quantile(0.5, sum by (le, job) (modelport_request_duration_seconds_bucket))"
        assert 0 < eventually(address, quantile, job) < 60


def test_promtool_finds_nothing_wrong_with_our_names(gateway: Start, tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m")
    running = gateway(tmp_path / "repository").wait_ready()
    running.infer("m", {"x": [[1, 1, 1, 1]]})
    checked = subprocess.run(
        [needed("promtool"), "check", "metrics"], input=text(running), capture_output=True, text=True, check=False
    )
    # Triton's names do not follow Prometheus's conventions, but dashboards query them.
    complaints = [line for line in checked.stderr.splitlines() if line.strip() and not line.startswith("nv_")]
    assert complaints == []
    assert checked.returncode in (0, 3)


def test_counts_survive_a_front_and_add_up_over_fronts(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m")
    running = gateway(repository, "--fronts", "2").wait_ready()
    with Load(running.http, "/predict/m", row, clients=8, most=25) as load:
        load.wait_total(200)
    # Each front sends its metrics once a second; a killed one must have sent them.
    while value(text(running), "modelport_requests_total", model="m", version="1", outcome="success") < 200:
        pass
    mark = len(running.log)
    os.kill(running.front_pids()[0], signal.SIGKILL)
    running.wait_for(r"front\.\d+: serving", mark)
    metrics = text(running)
    assert value(metrics, "modelport_requests_total", model="m", version="1", outcome="success") == 200
    assert value(metrics, "modelport_request_duration_seconds_count", model="m", version="1") == 200
    assert value(metrics, "modelport_front_restarts_total") == 1
    running.infer("m", {"x": [[1, 1, 1, 1]]})
    while value(text(running), "modelport_requests_total", model="m", version="1", outcome="success") != 201:
        pass


def test_what_happened_is_counted_where_it_belongs(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m")
    add_fake(repository, "broken", load_error="no")
    running = gateway(repository).wait_ready()
    running.infer("m", {"x": [[1] * 4] * 3})
    running.post("/predict/m", {"inputs": {"x": [[1, 2]]}})
    running.post("/predict/m", {"inputs": {"x": [[400] * 4]}})
    running.post("/predict/broken", {"inputs": {"x": [[1] * 4]}})
    running.post("/predict/nobody", {"inputs": {"x": [[1] * 4]}})
    metrics = text(running)
    of_m = {"model": "m", "version": "1"}
    assert value(metrics, "modelport_requests_total", **of_m, outcome="success") == 1
    assert value(metrics, "modelport_requests_total", **of_m, outcome="invalid") >= 1
    assert value(metrics, "modelport_requests_total", model="broken", version="1", outcome="unavailable") == 1
    assert value(metrics, "modelport_inference_rows_total", **of_m) == 3
    assert value(metrics, "modelport_executions_total", **of_m) == 1
    once = value(metrics, "modelport_compute_infer_duration_seconds_sum", **of_m)
    assert value(metrics, "modelport_execution_seconds_total", **of_m) == pytest.approx(once)
    assert value(metrics, "modelport_batch_rows_sum", **of_m) == 3
    assert value(metrics, "modelport_models", state="READY") == 1
    assert value(metrics, "modelport_models", state="UNAVAILABLE") == 1
    assert value(metrics, "modelport_workers_up", **of_m) == 1
    assert value(metrics, "nv_inference_count", **of_m) == 3
    assert 'model="nobody"' not in metrics


def test_statistics_are_those_of_now_over_all_fronts(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", seconds_per_batch=0.001)
    running = gateway(repository, "--fronts", "3").wait_ready()

    def model_statistics() -> dict[str, Any]:
        (statistics,) = running.get("/v2/models/m/stats").json()["model_stats"]
        return dict(statistics)

    for asked in range(1, 61):
        running.infer("m", {"x": [[1000] * 4, [1001] * 4]})  # on a new connection, so any front may accept it
        if asked % 10 == 0:
            statistics = model_statistics()
            assert (statistics["inference_count"], statistics["execution_count"]) == (2 * asked, asked)
            assert statistics["inference_stats"]["success"]["count"] == asked
            assert [batch["compute_infer"]["count"] for batch in statistics["batch_stats"]] == [asked]
    stopped, *_ = running.front_pids()
    os.kill(stopped, signal.SIGSTOP)  # the supervisor knows its counts, and no request waits for it
    try:
        assert model_statistics()["inference_count"] == 120
    finally:
        os.kill(stopped, signal.SIGCONT)
