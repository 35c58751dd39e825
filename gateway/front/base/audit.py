"""A front's part of the audit log: what it sends to the supervisor; Access for a server that has no identities."""

import asyncio
import time
from typing import Any, get_args

from gateway.domain.caller import Caller, Event, Header
from gateway.domain.identity import Action, Grants, Identity
from gateway.errors import Forbidden, Overloaded, QuotaExceeded, Unauthenticated, shorten
from gateway.process.channel import AUDIT, Channel

# How long events are collected. A longer time loses more of them if the front crashes; a shorter one means more frames.
_COLLECT_S = 0.1
# The refusals that are kept until the supervisor gets them. Further ones are only counted, so that a flood takes
# neither memory nor the supervisor's time. This many per _COLLECT_S is 10,240 a second. A request of an unknown client
# changes nothing, whatever its outcome.
_MAX_REFUSALS = 1024
# The same for what has changed the server, which a flood of refusals must not hide.
_MAX_EVENTS = 2 * _MAX_REFUSALS
_REFUSED = (Unauthenticated.kind, Forbidden.kind, QuotaExceeded.kind, Overloaded.kind)
# Clients choose the names of models, and paths.
_MAX_LENGTH = 256


class AuditTrail:
    """Collects events, and sends them to the supervisor in groups."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._events: list[list[Any]] = []
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None

    def record(self, event: Event) -> None:
        is_refused = not event.identity or event.outcome in _REFUSED
        if len(self._events) < (_MAX_REFUSALS if is_refused else _MAX_EVENTS):
            self._events.append([time.time(), *(shorten(field, _MAX_LENGTH) for field in event)])
        else:
            self._dropped += 1
        if self._timer is None:
            self._start_timer()

    def flush(self) -> None:
        """Send what has been collected. Call this before the channel is closed."""
        if self._events or self._dropped:
            self._channel.send(AUDIT, {"events": self._events, "dropped": self._dropped})
            self._events, self._dropped = [], 0

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_COLLECT_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._channel.has_backlog:  # the supervisor does not keep up
            self._start_timer()
        else:
            self.flush()


class OpenAccess:
    """Allows everything, and records it: the Access of a server without identities, but with an audit log."""

    def __init__(self, trail: AuditTrail) -> None:
        everything: Grants = dict.fromkeys(get_args(Action), ("*",))
        self._anyone = Identity("anonymous", everything, anonymous=True)
        self.record = trail.record
        self.known_headers: dict[Header, Identity] = {}

    def identify(self, caller: Caller) -> Identity:
        return self._anyone
