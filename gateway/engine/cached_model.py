"""A model whose answers are kept: equal requests get them again, and run once if they come together."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from gateway.domain.types import InferResponse
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.protocol import AnswerCallback
from gateway.engine.response_cache import Question, ResponseCache
from gateway.engine.servable import QueuedRequest, Servable
from gateway.engine.wrapper import ServableWrapper
from gateway.errors import ModelportError
from runtimes.fair_order import MAX_LEVEL
from runtimes.layouts import TensorGroup, new_layout
from runtimes.result_frames import ResultGroup
from runtimes.tensor_bytes import Tensor

_NO_TENSORS = TensorGroup(("", (), ()), (0,), memoryview(b""), 0)


class _Flight:
    """A request that runs, and those with the same question that wait for its answer."""

    __slots__ = ("digest", "followers", "generation", "leader", "on_answer", "question")

    def __init__(self, leader: AdmittedRequest, question: Question, digest: bytes, generation: object) -> None:
        self.leader, self.question, self.digest, self.generation = leader, question, digest, generation
        self.on_answer = leader.on_answer
        self.followers: dict[int, AdmittedRequest] = {}


class CachedModel(ServableWrapper):
    """The Servable of a version with a response cache, around the one that has its workers.

    Only models that are functions of their tensors may have one. Parameters of requests never reach such a model, so
    the question is the tensors, the signature and the requested outputs. What dialects make of an answer (classes,
    labels of images, places in shared memory) comes after the cache.

    The entries are those of one state of the version: when it is loaded again, or when its batches turn out to be
    unsafe, none of them is used any more. `cache` may be shared with other models.
    """

    def __init__(self, inner: Servable, cache: ResponseCache) -> None:
        super().__init__(inner)
        self.cache = cache
        self._flights: dict[bytes, _Flight] = {}
        self._led: dict[int, _Flight] = {}  # by the id of the request that runs
        self._own: dict[int, _Flight | None] = {}  # requests that the inner one does not have; followers have a flight
        self._generation: object = None
        self._closed = False

    def note_size(self) -> None:
        """Write what the cache holds of this model to its metrics, and count what has made room since the last time."""
        held = self.cache.held(self)
        metrics = self.metrics
        metrics.cache_bytes, metrics.cache_entries = held.size, held.entries
        # The metrics are those of the version, and count on when it has another cache.
        metrics.cache_evictions += held.evictions
        held.evictions = 0

    @property
    def under_way(self) -> int:
        return self.inner.under_way + len(self._own)

    def put(self, queued: QueuedRequest) -> None:
        assert isinstance(queued, AdmittedRequest)  # the compiled path does not know cached models
        request = queued.request
        assert request is not None
        self._check_generation()
        if not self.cache.may_hold(queued.size):
            self._pass_on(queued)
            return
        started = time.perf_counter()
        # The layout that the validator returns leaves the rows open, so that it is not enough here.
        layout = new_layout(request.signature or self.status.default_signature, request.outputs, request.inputs)
        question = Question(layout, [tensor.data for tensor in request.inputs])
        digest = question.digest()
        outputs = self.cache.get(self, digest, question)
        if outputs is not None:
            self.metrics.cache_hit_s += time.perf_counter() - started
            self._own[queued.id] = None
            # Not before `put` has returned: the caller does not know the request yet.
            asyncio.get_running_loop().call_soon(self._deliver, queued, outputs)
            return
        self.metrics.cache_miss_s += time.perf_counter() - started
        self._run(queued, question, digest)

    def _pass_on(self, queued: QueuedRequest) -> None:
        """Have the inner one answer. Each request is a hit or a miss, those that wait for another one included."""
        self.metrics.cache_misses += 1
        self.inner.put(queued)

    def _run(self, queued: AdmittedRequest, question: Question, digest: bytes) -> None:
        """Have the inner one answer, unless an equal request is in progress that will not run later than this one."""
        flight = self._flights.get(digest)
        if flight is not None and flight.question.equals(question) and _is_as_urgent(flight.leader, queued):
            flight.followers[queued.id] = queued
            self._own[queued.id] = flight
            return
        if flight is None:
            flight = _Flight(queued, question, digest, self._generation)
            self._flights[digest] = self._led[queued.id] = flight
            queued.on_answer = partial(self._on_answer, flight, flight.on_answer)
        self._pass_on(queued)

    def _on_answer(self, flight: _Flight, on_answer: AnswerCallback, outcome: InferResponse | Exception) -> None:
        if isinstance(outcome, InferResponse):
            self._end(flight)
            if flight.generation == self._current_generation() and not self._closed:
                started = time.perf_counter()
                self.cache.put(self, flight.digest, flight.question, outcome.outputs)
                self.metrics.cache_miss_s += time.perf_counter() - started
            followers, flight.followers = flight.followers, {}
            try:
                on_answer(outcome)
            finally:
                for follower in followers.values():
                    self._deliver(follower, outcome.outputs)
        else:
            on_answer(outcome)

    def _deliver(self, queued: AdmittedRequest, outputs: Sequence[Tensor]) -> None:
        self._own.pop(queued.id, None)
        if queued.request is None:
            return
        queued.sent_at = time.monotonic()
        self.metrics.cache_hits += 1
        self.metrics.count_cached()
        results = ResultGroup((queued.id,), (0,), 0, 0, 0, 0, _NO_TENSORS)
        queued.deliver(outputs, results, 0)

    def release(self, queued: QueuedRequest) -> None:
        if queued.id in self._own:
            flight = self._own.pop(queued.id)
            if flight is not None:
                del flight.followers[queued.id]
            return
        flight = self._led.get(queued.id)
        if flight is not None:  # it was cancelled, is late or has failed
            self._give_up(flight)
        self.inner.release(queued)

    def leave(self, queued: QueuedRequest) -> None:
        flight = self._led.get(queued.id)
        if flight is not None:
            flight.leader.on_answer = flight.on_answer  # another version's answer is not kept
            self._give_up(flight)
        super().leave(queued)

    def _give_up(self, flight: _Flight) -> None:
        """Have those run that waited for the answer to a request."""
        self._end(flight)
        followers, flight.followers = flight.followers, {}
        for follower in followers.values():
            del self._own[follower.id]
            self._pass_on(follower)

    def _end(self, flight: _Flight) -> None:
        del self._led[flight.leader.id]
        if self._flights.get(flight.digest) is flight:
            del self._flights[flight.digest]

    def fail_all(self, error: ModelportError) -> None:
        for flight in list(self._led.values()):
            for queued in list(flight.followers.values()):
                queued.fail(error)
        self.inner.fail_all(error)

    def _current_generation(self) -> object:
        status = self.status
        return status.fingerprint, status.max_batch_size

    def _check_generation(self) -> None:
        """Forget answers of an earlier state of the version."""
        generation = self._current_generation()
        if generation != self._generation:
            self._generation = generation
            self.cache.drop(self)
            self._flights.clear()  # those in progress answer whoever waits for them, and nobody else

    def close(self) -> None:
        """Forget all answers, and keep no more. Requests in progress are still answered."""
        self._closed = True
        self.note_size()
        self.cache.forget(self)


def _is_as_urgent(leader: AdmittedRequest, queued: AdmittedRequest) -> bool:
    return leader.priority & MAX_LEVEL <= queued.priority & MAX_LEVEL
