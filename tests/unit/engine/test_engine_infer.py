"""FrontEngine: requests that fail, and requests that are validated before they are queued."""

import asyncio
import contextlib
import gc
import weakref

import numpy as np
import pytest

from gateway.domain.table import Table, TableEntry
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.admission import AdmissionLimits
from gateway.engine.engine import FrontEngine
from gateway.engine.validate import validate
from gateway.errors import DeadlineExceeded, InvalidRequest, Unavailable
from runtimes.contract import Signature, TensorSpec
from runtimes.tensors import Tensor


def _engine(timeout_s: float) -> FrontEngine:
    engine = FrontEngine(1, AdmissionLimits(timeout_s=timeout_s), lambda *_: asyncio.sleep(0))
    signatures = {"default": Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))}
    engine.apply(Table((TableEntry(ModelStatus("m", "1", "READY", admits=True, signatures=signatures)),), True))
    return engine


def _request(data: np.ndarray) -> InferRequest:
    return InferRequest("m", [Tensor("x", "FP32", (1,), data.data)])


def test_a_failed_request_is_freed_without_garbage_collection() -> None:
    async def run() -> None:
        engine = _engine(0.05)
        data = np.zeros(4, np.uint8)
        kept = weakref.ref(data)
        with contextlib.suppress(DeadlineExceeded):
            await engine.infer(_request(data))
        del data
        await asyncio.sleep(0)
        assert kept() is None

    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_a_callback_that_raises_does_not_affect_the_next_request(caplog: pytest.LogCaptureFixture) -> None:
    def fails(outcome: InferResponse | Exception) -> None:
        raise RuntimeError("a bug in a callback")

    async def run() -> None:
        engine = _engine(60.0)
        data = np.zeros(4, np.uint8)
        engine.submit(_request(data), fails)
        outcomes: list[InferResponse | Exception] = []
        engine.submit(_request(data), outcomes.append)
        await engine.drain(0.0)
        assert [type(outcome) for outcome in outcomes] == [Unavailable]

    asyncio.run(run())
    assert "an answer could not be delivered" in caplog.text


def test_a_vector_may_be_empty_if_no_dimension_counts_rows() -> None:
    signatures = {"default": Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))}
    request = InferRequest("m", [Tensor("x", "FP32", (0,), b"")])
    validate(request, ModelStatus("m", "1", "READY", signatures=signatures))
    with pytest.raises(InvalidRequest, match="input 'x' has 0 rows; at least 1 is required"):
        validate(request, ModelStatus("m", "1", "READY", signatures=signatures, max_batch_size=8))


def test_rows_without_values_are_limited_to_one_batch() -> None:
    # A hundred bytes of request would otherwise keep a model busy for thirty million runs.
    signatures = {"default": Signature((TensorSpec("x", "FP32", (-1, -1)),), (TensorSpec("y", "FP32", (-1, -1)),))}
    batched = ModelStatus("m", "1", "READY", signatures=signatures, max_batch_size=8)
    validate(InferRequest("m", [Tensor("x", "FP32", (8, 0), b"")]), batched)
    validate(InferRequest("m", [Tensor("x", "FP32", (9, 1), bytes(36))]), batched)
    empty = InferRequest("m", [Tensor("x", "FP32", (1_000_000_000, 0), b"")])
    with pytest.raises(InvalidRequest, match="1000000000 rows without any values; model 'm' accepts at most 8"):
        validate(empty, batched)
    validate(empty, ModelStatus("m", "1", "READY", signatures=signatures))
