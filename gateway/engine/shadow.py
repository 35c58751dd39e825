"""Copies requests that one version has answered to another one, its shadow, and compares the answers.

Nothing about a shadow can affect the original: a copy is made when the original has been answered, waits behind all
requests of clients, has a deadline of its own, and is dropped if there are too many. It belongs to no client: no
limit, quota, identity, log or metric of requests knows it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from gateway.domain.traffic import Shadow, Traffic, shadow_problem
from gateway.domain.types import NO_PARAMETERS, InferRequest, InferResponse
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.admitted_requests import expire
from gateway.engine.deadlines import Deadlines
from gateway.engine.protocol import AnswerCallback
from gateway.engine.servable import QueuedRequest, Servable
from gateway.engine.shadow_metrics import ShadowMetrics
from gateway.engine.wrapper import ServableWrapper
from gateway.errors import ModelportError
from runtimes.fair_order import MAX_LEVEL
from runtimes.layouts import GroupedTensors
from runtimes.result_frames import ResultGroup
from runtimes.tensor_bytes import Tensor

if TYPE_CHECKING:
    from gateway.engine.shadow_comparison import OutputComparison

log = logging.getLogger(__name__)

Key = tuple[str, str]
# Copies of a front in progress at all shadows, and their bytes, answers included. With more, a shadow that is slower
# than the original takes more memory before copies are dropped; with fewer, bursts are compared in part only. One of
# several shadows may take as much as it leaves free, so that one that hangs leaves room for the others.
_MAX_COPIES = 32
_MAX_BYTES = 32 << 20


@dataclass(slots=True, eq=False)
class ShadowRequest(QueuedRequest):
    """A copy. `on_end` gets the outputs of the answer, or an error, once."""

    deadlines: "Deadlines[ShadowRequest]"
    servable: Servable
    on_end: "Callable[[Sequence[Tensor] | Exception], None]"

    def answer(self, results: ResultGroup, index: int) -> None:
        self.deliver(GroupedTensors(results.outputs, index), results, index)

    def deliver(self, outputs: Sequence[Tensor], results: ResultGroup, index: int) -> None:
        if self.request is not None and results.final:
            # The queue counts it next with the answers of the same frame, as if a client had sent it.
            self.servable.metrics.discount(self.rows)
            self._end(outputs)

    def fail(self, error: ModelportError) -> None:
        if self.request is not None:
            self.request = None
            self.servable.release(self)
            self._end(error)

    def _end(self, outcome: Sequence[Tensor] | Exception) -> None:
        self.request = None
        self.deadlines.remove(self, None)
        self.on_end(outcome)


@dataclass(slots=True)
class ShadowUse:
    """Copies in progress, including those whose answers are being compared, and their bytes."""

    count: int = 0
    size: int = 0

    def add(self, count: int, size: int) -> None:
        self.count += count
        self.size += size


class Shadows:
    """The copies of one front."""

    def __init__(self, new_id: Callable[[], int], timeout_s: float, random: Random | None = None) -> None:
        """new_id: returns an id that no other request has. timeout_s: how long a copy may take."""
        self.new_id, self.timeout_s = new_id, timeout_s
        self.deadlines: Deadlines[ShadowRequest] = Deadlines(expire)
        self.random = random or Random()
        self.copies: set[ShadowRequest] = set()
        self.late: set[ShadowRequest] = set()  # those that have ended, and that their workers still have
        self.use = ShadowUse()
        self._uses: dict[Key, ShadowUse] = {}  # the same by shadow
        self._models: dict[Key, ShadowedModel] = {}
        self._executor: ThreadPoolExecutor | None = None

    def apply(self, traffic: Mapping[str, Traffic], servables: Mapping[Key, Servable]) -> None:
        """Apply a table with these versions."""
        wanted = {(name, each.shadow.of): each.shadow for name, each in traffic.items() if each.shadow is not None}
        models: dict[Key, ShadowedModel] = {}
        for key, shadow in wanted.items():
            of, copy = servables.get(key), servables.get((key[0], shadow.version))
            if of is None or copy is None or shadow_problem(copy.status, of.status):
                continue
            model = self._models.get(key)
            if model is None or model.target is not copy or model.shadow != shadow:
                model = ShadowedModel(of, copy, shadow, self)
            models[key] = model
        self._models = models

    def around(self, key: Key, inner: Servable) -> Servable | None:
        """Return the version, around this servable, if its requests are copied; otherwise None."""
        model = self._models.get(key)
        if model is not None and model.inner is not inner:
            # Not the same one: requests in progress still belong to what they were given to.
            model = self._models[key] = ShadowedModel(inner, model.target, model.shadow, self)
        return model

    def discount(self) -> None:
        """Take the copies out of the gauges of requests, which `FrontEngine.snapshot` has just set."""
        self.late = {copy for copy in self.late if _is_at_worker(copy)}
        for copy in (*self.copies, *self.late):
            metrics = copy.servable.metrics
            metrics.in_flight -= 1
            metrics.queued -= copy.worker is None

    def take(self, key: Key, size: int) -> bool:
        """Take room for a copy to this shadow. Returns whether there was any."""
        own = self._uses.setdefault(key, ShadowUse())
        count, free = _MAX_COPIES - self.use.count, _MAX_BYTES - self.use.size
        if len(self._models) > 1:
            count, free = count - own.count, free - own.size
        if count <= 0 or size > free:
            return False
        self.use.add(1, size)
        own.add(1, size)
        return True

    def free(self, key: Key, size: int) -> None:
        self.use.add(-1, -size)
        own = self._uses[key]
        own.add(-1, -size)
        if not own.count:
            del self._uses[key]

    def compare(self, original: Sequence[Tensor], shadow: Sequence[Tensor]) -> "asyncio.Future[_Compared]":
        """Compare two answers in a thread: arrays may be large, and clients must not wait for it."""
        # Imported late, like the thread: most fronts copy nothing.
        from gateway.engine.shadow_comparison import compare

        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "shadow")
        return asyncio.get_running_loop().run_in_executor(self._executor, compare, original, shadow)


_Compared = tuple[str, "list[OutputComparison]"]


class ShadowedModel(ServableWrapper):
    """The Servable of a version whose requests are copied to `target`."""

    def __init__(self, inner: Servable, target: Servable, shadow: Shadow, shadows: Shadows) -> None:
        super().__init__(inner)
        self.target, self.shadow, self._shadows = target, shadow, shadows
        metrics = target.metrics
        if metrics.shadow is None:
            metrics.shadow = ShadowMetrics()
        self._found = metrics.shadow

    def put(self, queued: QueuedRequest) -> None:
        assert isinstance(queued, AdmittedRequest)  # the compiled path does not know shadowed models
        request = queued.request
        if request is not None and (self.shadow.share >= 1 or self._shadows.random.random() < self.shadow.share):
            queued.on_answer = partial(self._on_answer, request, queued.size, queued.on_answer)
        self.inner.put(queued)

    def _on_answer(
        self, request: InferRequest, size: int, on_answer: AnswerCallback, outcome: InferResponse | Exception
    ) -> None:
        try:
            on_answer(outcome)
        finally:
            # Otherwise, it is an error, or another version has answered because this one was unloaded.
            if isinstance(outcome, InferResponse) and outcome.version == self.status.version:
                # Later, so that everything that belongs to the original happens first.
                asyncio.get_running_loop().call_soon(self._copy, request, size, outcome.outputs)

    def _copy(self, request: InferRequest, size: int, outputs: Sequence[Tensor]) -> None:
        found, shadows, status = self._found, self._shadows, self.target.status
        if not status.admits or not status.signatures or status.state == "UNLOADED":
            found.count("unavailable")
            return
        size += 2 * sum(len(tensor.data) for tensor in outputs)  # the shadow's answer is as large
        request = request._replace(record=None, parameters=NO_PARAMETERS, deadline=None)
        try:
            rows, _, layout, _ = self.target.validator.check(request)
        except ModelportError:
            found.count("form")
            return
        key = (status.name, status.version)
        if not shadows.take(key, size):
            found.count("dropped")
            return
        # The answer may be in memory that the worker needs for the next ones.
        original = [tensor._replace(data=bytes(tensor.data)) for tensor in outputs]
        now = time.monotonic()
        ends = now + shadows.timeout_s
        copy = ShadowRequest(
            shadows.new_id(),
            request,
            layout,
            rows,
            size,
            ends,
            now,
            MAX_LEVEL,
            None,
            shadows.deadlines,
            self.target,
            _nothing,
        )
        copy.on_end = partial(self._on_end, copy, original)
        shadows.copies.add(copy)
        shadows.deadlines.add(copy, None)
        self.target.put(copy)

    def _on_end(self, copy: ShadowRequest, original: Sequence[Tensor], outcome: Sequence[Tensor] | Exception) -> None:
        shadows = self._shadows
        shadows.copies.discard(copy)
        if isinstance(outcome, Exception):
            self._found.count("failed")
            self._free(copy)
            if _is_at_worker(copy):
                shadows.late.add(copy)
            return
        shadows.compare(original, outcome).add_done_callback(partial(self._on_compared, copy))

    def _on_compared(self, copy: ShadowRequest, compared: "asyncio.Future[_Compared]") -> None:
        self._free(copy)
        if compared.cancelled():
            return
        if error := compared.exception():
            log.error("the answers of a shadow could not be compared", exc_info=error)
            self._found.count("failed")
            return
        outcome, outputs = compared.result()
        self._found.count(outcome)
        for each in outputs:
            self._found.observe(*each)

    def _free(self, copy: ShadowRequest) -> None:
        self._shadows.free((self.target.status.name, self.target.status.version), copy.size)


def _is_at_worker(copy: ShadowRequest) -> bool:
    return copy.worker is not None and copy.worker.has(copy.id)


def _nothing(outcome: object) -> None:
    pass
