"""Engine.infer: submit, for whoever can wait."""

import asyncio
import contextlib
import gc
import weakref

import numpy as np

from gateway.engine.admission import Admission
from gateway.engine.engine import Engine
from gateway.engine.table import Entry, Table
from gateway.engine.types import InferRequest, ModelStatus
from gateway.errors import DeadlineExceeded
from runtimes.contract import Signature, TensorSpec
from runtimes.wire import Tensor


def test_a_request_that_failed_is_forgotten_without_a_collection() -> None:
    async def run() -> None:
        engine = Engine(1, Admission(timeout_s=0.05), lambda *_: asyncio.sleep(0))
        signatures = {"default": Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))}
        status = ModelStatus("m", "1", "READY", admits=True, signatures=signatures)
        engine.apply(Table((Entry(status),), True))
        data = np.zeros(4, np.uint8)
        kept = weakref.ref(data)
        with contextlib.suppress(DeadlineExceeded):
            await engine.infer(InferRequest("m", [Tensor("x", "FP32", (1,), data.data)]))
        del data
        await asyncio.sleep(0)
        assert kept() is None

    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()
