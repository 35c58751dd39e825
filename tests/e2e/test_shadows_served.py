"""A shadow with real workers: it crashes, hangs and is slow, and the original's clients notice nothing of it."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.process.niceness import LOWEST, is_reversible
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_fake

TOML = "version_policy = { all = true }\nexecution_timeout_s = 1\n"
SHADOWED = '[traffic]\nweights = { "3" = 1 }\nshadow = { version = 4, of = 3 }\n'
CRASH, HANG = 666.0, 777.0


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "access.log"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, log: Path) -> Iterator[Gateway]:
    repository = tmp_path_factory.mktemp("shadows") / "repository"
    for name in ("equal", "other", "hostile"):
        add_fake(repository, name, "3", TOML + SHADOWED, inert=True)
        # What does not change an answer of version 3 kills the worker of version 4, or has it hang.
        add_fake(repository, name, "4", not_batchable=name == "other")
    add_fake(repository, "slow", "3", TOML, inert=True)
    add_fake(repository, "slow", "4", seconds_per_batch=0.2)
    gateway = start_gateway(repository, repository.parent, "--fronts", "2", "--access-log", str(log)).wait_ready()
    yield gateway
    gateway.close()


def ask(running: Gateway, model: str, value: float = 1.0) -> None:
    reply = running.post(f"/predict/{model}", {"inputs": {"x": [[value, 0, 0, 0]]}})
    assert (reply.status, reply.json()) == (
        200,
        {"model": model, "version": "3", "outputs": {"y": [[2 * value, 0, 0, 0]]}},
    )


def metrics(running: Gateway, model: str) -> dict[str, float]:
    """Return the samples of the model's shadow, by name and the labels that matter. Both fronts report them."""
    running.get("/v2/models/stats")  # has both fronts report what they have counted
    found = {}
    for name, labels, value in re.findall(r"^(\w+)\{(.*)\} (\S+)$", running.get("/metrics").body.decode(), re.M):
        given = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if given.get("model") == model and given.get("version") == "4":
            rest = [given[label] for label in ("outcome", "output", "agrees", "le") if label in given]
            found[" ".join([name, *rest])] = float(value)
    return found


def wait_for(running: Gateway, model: str, total: int) -> dict[str, float]:
    """Wait until every copy has an outcome. Each turn is a scrape."""
    while True:
        found = metrics(running, model)
        if sum(value for name, value in found.items() if name.startswith("modelport_shadow_requests")) >= total:
            return found


def test_equal_versions_have_no_difference_and_the_shadow_no_requests(running: Gateway) -> None:
    for _ in range(20):
        ask(running, "equal")
    found = wait_for(running, "equal", 20)
    assert found["modelport_shadow_requests_total compared"] == 20
    assert found["modelport_shadow_difference_bucket y 0.0"] == 20
    assert found["modelport_shadow_best_class_rows_total y true"] == 20
    assert found["modelport_requests_total success"] == 0
    assert (found["modelport_inference_rows_total"], found["modelport_request_duration_seconds_count"]) == (0, 0)
    assert found["modelport_executions_total"] > 0
    by_version = {each["version"]: each for each in running.get("/v2/models/equal/stats").json()["model_stats"]}
    assert by_version["4"]["inference_stats"]["success"]["count"] == by_version["4"]["inference_count"] == 0
    assert by_version["3"]["inference_stats"]["success"]["count"] == 20


def test_different_versions_diverge(running: Gateway) -> None:
    for _ in range(10):
        ask(running, "other")
    found = wait_for(running, "other", 10)
    # The mean of [1, 0, 0, 0] is added: 0.25 next to 2.
    assert found["modelport_shadow_difference_bucket y 0.1"] == 0
    assert found["modelport_shadow_difference_bucket y 1.0"] == 10
    assert found["modelport_shadow_difference_sum y"] == pytest.approx(2.5)
    assert found["modelport_shadow_relative_difference_sum y"] == pytest.approx(1.25)


def test_a_shadow_that_crashes_and_hangs_is_contained(running: Gateway) -> None:
    count = 0
    with ThreadPoolExecutor(8) as pool:
        for values in ([CRASH, 1.0] * 2, [HANG, 1.0], [1.0] * 20):
            list(pool.map(lambda value: ask(running, "hostile", value), values))
            count += len(values)
    found = wait_for(running, "hostile", count)
    assert found["modelport_shadow_requests_total failed"] > 0
    assert sum(value for name, value in found.items() if name.startswith("modelport_shadow_requests")) == count
    assert found["modelport_requests_total internal"] == 0
    running.wait_for(r"hostile version 4: its worker was killed by SIGKILL")
    assert running.index()["hostile", "3"]["state"] == "READY"


def test_a_slow_shadow_gets_what_it_can_and_is_removed_at_run_time(running: Gateway) -> None:
    assert running.post("/v2/models/slow/traffic", {"weights": {"3": 1}, "shadow": {"version": 4}}).status == 200
    shadow: Any = running.get("/v2/models/slow/traffic").json()["shadow"]
    assert shadow == {"version": "4", "of": "3", "share": 1.0}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ask(running, "slow"), range(300)))
    found = wait_for(running, "slow", 300)
    assert found["modelport_shadow_requests_total dropped"] > 0
    assert found["modelport_shadow_requests_total compared"] > 0
    promoted = running.post("/v2/models/slow/traffic/promote", {"version": "4"}).json()
    assert promoted["shadow"] is None
    assert running.post("/v2/models/slow/traffic/rollback", {}).json()["shadow"] == shadow
    assert running.post("/v2/models/slow/traffic", {"shadow": None}).json()["shadow"] is None
    total = sum(value for name, value in found.items() if name.startswith("modelport_shadow_requests"))
    for _ in range(5):
        ask(running, "slow")
    after = metrics(running, "slow")
    assert sum(value for name, value in after.items() if name.startswith("modelport_shadow_requests")) == total


@pytest.mark.skipif(not is_reversible(), reason="this process may not raise priorities again (CAP_SYS_NICE)")
def test_workers_of_a_shadow_have_the_lowest_priority_until_it_is_promoted(running: Gateway) -> None:
    def nice() -> set[int]:
        tasks = [Path(f"/proc/{pid}/task") for pid in running.worker_pids("equal")]
        return {os.getpriority(os.PRIO_PROCESS, int(task.name)) for each in tasks for task in each.iterdir()}

    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert nice() == {usual, LOWEST}
    running.post("/v2/models/equal/traffic/promote", {"version": "4"})
    assert nice() == {usual}
    running.post("/v2/models/equal/traffic/rollback", {})
    assert nice() == {usual, LOWEST}


def test_the_access_log_has_the_originals_only(running: Gateway, log: Path) -> None:
    ask(running, "equal")
    answered = sum(
        each["inference_stats"]["success"]["count"]
        for each in running.get("/v2/models/equal/stats").json()["model_stats"]
    )
    lines: list[str] = []
    while len(lines) < answered:  # they are written a little later, in the order of the requests
        lines = [line for line in log.read_text().splitlines() if "/predict/equal" in line]
    assert len(lines) == answered
