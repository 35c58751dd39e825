"""The engine with a servable that has no workers and sends several answers to a request."""

import asyncio

import numpy as np
import pytest

from gateway.domain.table import Table, TableEntry
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.admission import AdmissionLimits
from gateway.engine.engine import FrontEngine
from gateway.engine.metrics import ModelMetrics
from gateway.engine.routes import Routes
from gateway.engine.servable import QueuedRequest, Servable
from gateway.engine.validate import LayoutValidator
from gateway.errors import ModelportError
from runtimes.contract import Signature, TensorSpec
from runtimes.layouts import TensorGroup, layout_of
from runtimes.result_frames import ResultGroup
from runtimes.tensors import from_array

REQUEST = InferRequest("m", [from_array("x", np.ones(1, np.float32))], id="seven")


class Counting:
    """Answers when a test says so."""

    target_s = 0.0
    queued = 0

    def __init__(self, status: ModelStatus) -> None:
        self.status = status
        self.metrics = ModelMetrics()
        self.validator = LayoutValidator(status)
        self.accepted: list[QueuedRequest] = []
        self.released: list[QueuedRequest] = []

    @property
    def under_way(self) -> int:
        return len(self.accepted) - len(self.released)

    def would_be_late(self, rows: int, now: float, deadline: float) -> bool:
        return False

    def put(self, queued: QueuedRequest) -> None:
        self.accepted.append(queued)

    def acknowledge(self, queued: QueuedRequest) -> None:
        pass

    def release(self, queued: QueuedRequest) -> None:
        self.released.append(queued)

    def fail_all(self, error: ModelportError) -> None:
        for queued in self.accepted:
            queued.fail(error)

    def answer(self, value: float, final: bool) -> None:
        tensor = from_array("y", np.full(1, value, np.float32))
        outputs = TensorGroup(layout_of("", (), [tensor]), [1], memoryview(tensor.data), 0)
        (queued,) = self.accepted
        results, was_settled = ResultGroup((queued.id,), (1,), 2, 3, 4, 1, outputs, final), queued.settled
        queued.answer(results, 0)
        if final and not was_settled:
            self.metrics.count_results(results, 1, queued.rows)
            self.released.append(queued)


@pytest.fixture
def servable(monkeypatch: pytest.MonkeyPatch) -> Counting:
    signature = Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))
    made = Counting(ModelStatus("m", "1", "READY", admits=True, signatures={"default": signature}))
    fits: Servable = made
    monkeypatch.setattr(Routes, "servable", lambda self, name, version: fits)
    monkeypatch.setattr(Routes, "servables", lambda self: iter([fits]))
    return made


def _engine(servable: Counting) -> FrontEngine:
    engine = FrontEngine(1, AdmissionLimits(timeout_s=60.0), lambda *_: asyncio.sleep(0))
    engine.apply(Table((TableEntry(servable.status),), True))
    return engine


def _received(outcome: InferResponse | Exception) -> tuple[list[float], str, bool]:
    assert isinstance(outcome, InferResponse)
    return np.frombuffer(outcome.outputs[0].data, np.float32).tolist(), outcome.id, outcome.final


def test_each_answer_is_delivered_and_the_final_one_settles_the_request(servable: Counting) -> None:
    async def run() -> None:
        engine = _engine(servable)
        outcomes: list[InferResponse | Exception] = []
        engine.submit(REQUEST, outcomes.append)
        servable.answer(1.0, final=False)
        assert ([_received(each) for each in outcomes], servable.released) == ([([1.0], "seven", False)], [])
        servable.answer(2.0, final=True)
        assert [_received(each) for each in outcomes] == [([1.0], "seven", False), ([2.0], "seven", True)]
        servable.answer(3.0, final=False)
        servable.answer(4.0, final=True)
        assert len(outcomes) == 2
        assert servable.released == servable.accepted
        assert servable.metrics.outcomes == {"success": 1}
        await engine.drain(0.0)  # returns immediately: nothing is in progress

    asyncio.run(run())


def test_infer_returns_the_final_answer(servable: Counting) -> None:
    async def run() -> None:
        answer = asyncio.ensure_future(_engine(servable).infer(REQUEST))
        await asyncio.sleep(0)
        servable.answer(1.0, final=False)
        await asyncio.sleep(0)
        assert not answer.done()
        servable.answer(2.0, final=True)
        assert _received(await answer) == ([2.0], "seven", True)

    asyncio.run(run())


def test_a_request_cancelled_between_two_answers_gets_no_other(servable: Counting) -> None:
    async def run() -> None:
        outcomes: list[InferResponse | Exception] = []
        handle = _engine(servable).submit(REQUEST, outcomes.append)
        servable.answer(1.0, final=False)
        handle.cancel()
        servable.answer(2.0, final=True)
        assert [_received(each)[0] for each in outcomes] == [[1.0]]
        assert servable.metrics.outcomes == {"cancelled": 1}

    asyncio.run(run())
