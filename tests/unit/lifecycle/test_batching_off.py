"""When one worker finds that batching is unsafe, the version's other workers switch it off too."""

from pathlib import Path
from typing import Any

import pytest

from gateway.domain.table import WorkerAddress
from gateway.lifecycle.launch import Launch
from gateway.lifecycle.model_version import ModelVersion
from gateway.lifecycle.policy import VersionKey
from gateway.repository.model_config import ModelConfig
from runtimes.contract import Signature, TensorSpec
from runtimes.control import BatchingOff, Load, Ready

SPEC = TensorSpec("x", "FP32", (-1, 4))
ON, OFF = (8, "", "batching up to 8 rows"), (0, "rows", "batching is off: output 'y' has 3 rows")


class Worker:
    address = WorkerAddress(1, "socket", "status", 2)
    launch = Launch("m", "1", Path(), {}, Load("runtime", "artifact"), 1.0, 1.0)

    def __init__(self) -> None:
        self.ready: Ready | None = None
        self.learned: dict[str, Any] = {}
        self.notified: list[BatchingOff] = []

    def says(self, rows: int, reason: str, note: str) -> None:
        self.ready = Ready({"default": Signature((SPEC,), (SPEC,))}, rows, 2, reason, note)

    def switch_batching_off(self, off: BatchingOff) -> None:
        self.notified.append(off)


@pytest.mark.parametrize("first_index", [0, 1])
@pytest.mark.parametrize("from_the_start", [True, False])
def test_all_workers_follow_the_one_that_switched_off(
    first_index: int, from_the_start: bool, caplog: pytest.LogCaptureFixture
) -> None:
    version = ModelVersion(VersionKey("m", "1", "print"), ModelConfig("m", "1", "print"), lambda: None)
    workers: Any = [Worker(), Worker()]
    version.workers = workers
    first, other = workers[first_index], workers[1 - first_index]
    for worker in workers:
        worker.says(*(OFF if from_the_start and worker is first else ON))
        version._on_worker_change()
    assert version.batching_off_reason == ("rows" if from_the_start else "")
    first.says(*OFF)
    version._on_worker_change()
    assert version.entry().status.max_batch_size == 0
    assert version.entry().status.has_rows  # so that answers keep their shapes
    assert version.batching_off == BatchingOff("rows", "output 'y' has 3 rows")
    assert version.batching_off in other.notified
    assert not first.notified
    assert caplog.text.count("m version 1: batching is off: output 'y' has 3 rows") == 1
    other.says(*OFF)
    other.notified.clear()
    version._on_worker_change()
    assert not other.notified


def test_what_one_worker_has_tried_no_other_tries_on_the_same_kind_of_device() -> None:
    version = ModelVersion(VersionKey("m", "1", "print"), ModelConfig("m", "1", "print"), lambda: None)
    worker: Any = Worker()
    version.workers = [worker]
    assert version.proven("cpu") == ()
    worker.says(*ON)
    worker.ready = worker.ready._replace(batched=("default",))
    version._on_worker_change()
    assert version.proven("cpu") == ("default",)
    assert version.proven("cuda") == ()
