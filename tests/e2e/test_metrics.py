"""The metrics as Prometheus itself reads them, over several fronts and their restarts."""

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import Gateway
from tests.support.load_generator import Load
from tests.support.model_repositories import add_fake
from tests.support.prometheus import Prometheus, needed, running_prometheus

Start = Callable[..., Gateway]

PROMETHEUS = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: own-port
    static_configs: [{{targets: ["{metrics}"]}}]
  - job_name: front
    static_configs: [{{targets: ["{http}"]}}]
"""


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


def eventually(prometheus: Prometheus, expression: str, job: str, tries: int = 20_000) -> float:
    """Return the value once Prometheus has one; each try is a query."""
    for _ in range(tries):
        for result in prometheus.query(expression):
            if result["metric"]["job"] == job:
                return float(result["value"][1])
    raise AssertionError(f"Prometheus never had {expression} of {job}")


def test_prometheus_scrapes_the_gateway(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m")
    running = gateway(repository, "--fronts", "2").wait_ready()
    with Load(running.http, "/predict/m", row, clients=4, most=50) as load:
        load.wait_total(200)
    config = PROMETHEUS.format(metrics=running.metrics, http=running.http)
    with running_prometheus(config, tmp_path) as prometheus:
        for job in ("own-port", "front"):
            assert eventually(prometheus, 'modelport_requests_total{outcome="success",model="m"} == 200', job) == 200
            assert eventually(prometheus, 'modelport_request_duration_seconds_count{model="m"} == 200', job) == 200
            assert eventually(prometheus, 'nv_inference_request_success{model="m"} == 200', job) == 200
            quantile = "histogram_quantile(0.5, sum by (le, job) (modelport_request_duration_seconds_bucket))"
            assert 0 < eventually(prometheus, quantile, job) < 60


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
    running.wait_for(r"front \d+ exited with code", mark)
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
