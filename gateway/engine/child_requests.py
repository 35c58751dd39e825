"""Submits requests that are made for another one in progress: by pipelines, and by models that call others."""

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from gateway.domain.identity import Identity
from gateway.domain.types import InferRequest, NotLoaded
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.load_waits import LoadWaits
from gateway.engine.protocol import AnswerCallback, RequestHandle
from gateway.engine.servable import QueuedRequest
from gateway.errors import InvalidRequest, ModelportError, Unsupported


class Submit(Protocol):
    """FrontEngine.submit."""

    def __call__(
        self,
        request: InferRequest,
        on_answer: AnswerCallback,
        identity: Identity | None,
        takes_many: bool,
        parent: AdmittedRequest | None = None,
    ) -> AdmittedRequest: ...


class ChildRequests:
    """Those of one front."""

    def __init__(self, submit: Submit, waits: LoadWaits, new_id: Callable[[], int]) -> None:
        """`new_id` returns an id that no other request has."""
        self._submit, self._waits, self._new_id = submit, waits, new_id

    def submit_child(
        self, parent: QueuedRequest, request: InferRequest, on_answer: AnswerCallback, takes_many: bool = False
    ) -> RequestHandle:
        """Submit a request for `parent`: FrontEngine.submit for models that need others.

        It has the parent's identity, its priority unless it states one, and its deadline unless its own is earlier. Its
        bytes count as admitted, but limits, quotas and draining never refuse it, because the parent was admitted:
        callers limit how many children, and how many of their bytes, they have in progress. It is cancelled when the
        parent is settled. The trace of the parent shows it.

        Only requests that `submit` or `submit_child` returned can be parents. Those of the compiled path, which knows
        plain models only, cannot.

        Raises ModelportError as `submit` does, and if the model is one of those above it, or more than MAX_DEPTH deep.
        """
        if not isinstance(parent, AdmittedRequest):
            raise Unsupported("a request to this model cannot call other models")
        above = parent.request
        if above is None:
            raise InvalidRequest("the request for which this one is made has ended")
        deadline = parent.deadline if request.deadline is None else min(request.deadline, parent.deadline)
        record = None if above.record is None else above.record.of_child(request.model, request.version, request.id)
        request = request._replace(
            deadline=deadline,
            priority=request.priority or above.priority,
            record=record,
            affinity=request.affinity or above.affinity,
        )
        try:
            return self._submit_or_wait(parent, request, on_answer, takes_many)
        except ModelportError as error:
            if record is not None:
                record.outcome = error.kind
            raise

    def _submit_or_wait(
        self, parent: AdmittedRequest, request: InferRequest, on_answer: AnswerCallback, takes_many: bool
    ) -> RequestHandle:
        """Submit a request, or have it wait for its version: again, if another version is chosen then."""
        try:
            return self._submit(request, on_answer, parent.identity, takes_many, parent)
        except NotLoaded as unloaded:
            assert request.deadline is not None
            seconds = request.deadline - time.monotonic()
            go_on = partial(self._go_on, parent, request, on_answer, takes_many)
            return self._waits.add(self._new_id(), unloaded, go_on, on_answer, seconds=seconds, is_child=True)

    def _go_on(
        self, parent: AdmittedRequest, request: InferRequest, on_answer: AnswerCallback, takes_many: bool
    ) -> RequestHandle | None:
        return None if parent.settled else self._submit_or_wait(parent, request, on_answer, takes_many)
