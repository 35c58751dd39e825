"""Admits the requests of one front, and settles each of them once."""

import time

from gateway.domain.identity import Identity
from gateway.domain.types import NO_PARAMETERS, InferRequest, InferResponse, unavailable
from gateway.engine.admission import AdmissionController
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.context import context_of
from gateway.engine.deadlines import Deadlines
from gateway.engine.load_waits import LoadWait
from gateway.engine.protocol import AnswerCallback
from gateway.engine.servable import QueuedRequest, Servable
from gateway.errors import DeadlineExceeded, ModelportError, Overloaded
from runtimes.fair_order import priority_of

# Longer deadlines are shortened to a day, which is also the longest single wait of asyncio's own loop
# (MAXIMUM_SELECT_TIMEOUT). Clients may set deadlines years away, and not every event loop has timers that long.
MAX_WAIT_S = 86_400.0


class AdmittedRequests:
    """Counts requests from their admission to their end, and ends those whose deadline passes.

    last_id  the id given last; each is unique across fronts
    """

    def __init__(self, front: int, admission: AdmissionController) -> None:
        """front: the front's number."""
        self.last_id = front << 40
        self.deadlines: Deadlines[AdmittedRequest | LoadWait] = Deadlines(expire)
        self._admission = admission

    def new_id(self) -> int:
        self.last_id += 1
        return self.last_id

    def admit(
        self,
        request: InferRequest,
        servable: Servable,
        now: float,
        on_answer: AnswerCallback,
        identity: Identity | None,
        parent: AdmittedRequest | None,
        asked_version: str,
        has_other_models: bool,
    ) -> AdmittedRequest:
        """Check a request for a version, count it, and hand it to the version's servable.

        now            when it arrived
        parent         the request for which it is made, which is why no limit refuses it
        asked_version  as the client named it

        Raises ModelportError.
        """
        status = servable.status
        chain = () if parent is None else parent.chain_to(status.name)
        if not status.admits or not status.signatures:
            raise unavailable(status)
        rows, size, layout, _ = servable.validator.check(request)
        size += len(request.id)  # of any length, and kept as long as the inputs
        context = b""
        is_own = bool(request.parameters) or request.sequence is not None
        if status.takes_context or status.sequence or (status.steps and is_own):  # a pipeline passes it on
            context = context_of(request)
            size += len(context)
        elif is_own:
            # They would be kept as long as the inputs, and nobody counts their bytes.
            request = request._replace(parameters=NO_PARAMETERS, sequence=None)
        timeout_s, target_s = None, servable.target_s
        if request.deadline is None:
            timeout_s = target_s or self._admission.limits.timeout_s
            deadline = now + timeout_s
        else:
            deadline = min(request.deadline, now + (target_s or MAX_WAIT_S))
            if deadline <= now:
                raise DeadlineExceeded("the deadline had passed when the request arrived")
        if target_s and servable.would_be_late(rows, now, deadline):
            raise Overloaded("the model is too busy to answer in time; try again later")
        if parent is None:
            self._admission.admit(size, servable.under_way, has_other_models)
        else:
            self._admission.admit_child(size)
        priority = request.priority
        priority = status.priority_level(priority) if priority else status.default_priority_level
        if identity is not None and identity.usage is not None:
            if parent is None:
                try:
                    identity.usage.admit(size)
                except ModelportError:
                    self._admission.release(size)
                    raise
            priority = priority_of(priority, identity.usage.flow)
        number = self.last_id = self.last_id + 1
        admitted = AdmittedRequest(
            number, request, layout, rows, size, deadline, now, priority, identity, self, servable, on_answer,
            timeout_s, parent, chain,
        )  # fmt: skip
        admitted.context, admitted.asked_version = context, asked_version
        if parent is None:
            self.deadlines.add(admitted, timeout_s)
        else:
            if parent.children is None:
                parent.children = {}
            parent.children[number] = admitted
            if deadline < parent.deadline:  # otherwise, it ends with the parent
                self.deadlines.add(admitted, None)
        servable.put(admitted)
        return admitted

    def settle(self, admitted: AdmittedRequest) -> float:
        """End an admitted request, and return how many seconds it took. Every admitted request ends here, once."""
        admitted.request = None
        # The queue's heap may refer to the request for long; what it refers to in turn can be freed now.
        admitted.on_answer = _ignore
        if admitted.children:
            admitted.cancel_children()
        parent, identity = admitted.parent, admitted.identity
        if parent is None:
            self._admission.release(admitted.size)
            if identity is not None and identity.usage is not None:
                identity.usage.end(admitted.size)
        else:
            self._admission.end_child(admitted.size)
            if parent.children is not None:
                del parent.children[admitted.id]
        self.deadlines.remove(admitted, admitted.timeout_s)
        return time.monotonic() - admitted.queued_at


def expire(waiting: QueuedRequest | LoadWait) -> None:
    waiting.fail(DeadlineExceeded("the deadline passed before the model answered"))


def _ignore(outcome: InferResponse | Exception) -> None:
    pass
