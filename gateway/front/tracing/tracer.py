"""Decides which requests are traced, and passes on their records."""

from collections.abc import Callable
from random import SystemRandom

from gateway.domain.request_record import SUCCESS, RequestRecord
from gateway.domain.trace_settings import TraceSampler
from gateway.engine.metrics import FrontMetrics
from gateway.front.tracing.parent import is_sampled, read_parent

# Ids are unguessable, because whoever can read traces could otherwise tell from one how many others there are.
_RANDOM = SystemRandom()


class Tracer:
    """The Observer of requests that traces are made of. `export` must not block."""

    def __init__(self, sampler: TraceSampler, export: Callable[[RequestRecord], None], metrics: FrontMetrics) -> None:
        self._sampler, self._export, self._metrics = sampler, export, metrics
        # Whether `skips` has decided to trace the request that `named` is called for next.
        self._chosen = False

    def skips(self, model: str, traceparent: str) -> bool:
        if not self._sampler.samples(model, is_sampled(traceparent) if traceparent else None):
            return True
        self._chosen = True
        return False

    def named(self, record: RequestRecord) -> None:
        if record.traced is None:
            record.traced = self._chosen or self._sampler.samples(record.model, is_sampled(record.traceparent))
            self._chosen = False
            if record.traced:
                parent = read_parent(record.traceparent)
                record.trace_id = parent.trace_id if parent else f"{_RANDOM.getrandbits(128) or 1:032x}"

    def ended(self, record: RequestRecord) -> None:
        self.named(record)  # a request that was refused before
        if not record.traced:
            return
        if record.outcome == SUCCESS and record.answered:
            self._add_exemplars(record)
        self._export(record)

    def _add_exemplars(self, record: RequestRecord) -> None:
        metrics = self._metrics.of(record.model, record.version)
        metrics.request.exemplify(record.answered - record.queued, record.trace_id)
        metrics.queue.exemplify(record.sent - record.queued + record.queue_ns * 1e-9, record.trace_id)
        metrics.compute_infer.exemplify(record.compute_infer_ns * 1e-9, record.trace_id)
