"""Counts outcomes, and keeps the requests whose outcome is a fault of the server."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.hostile.corpus import SPARE

# 501: shared memory, exports. 504: the request's own timeout.
_ALLOWED_STATUS = {501, 504}
_FAULTS = {"INTERNAL", "UNKNOWN", "DATA_LOSS", "ABORTED"}
# What grpc.aio's client says if the server ends a stream while the client still sends.
_CLIENT_ERROR = "Internal error from Core"
# Failures that are kept. Without a limit, a server that always fails would fill the memory.
_MAX_KEPT = 50


@dataclass
class Tally:
    """outcomes: (door, outcome) → count. failures: sentences. `next` is the number of the next request."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    next: int = 0

    def http(self, number: int, door: str, status: int | None, body: bytes, request: bytes) -> None:
        """`status` is None if no answer came."""
        self.outcomes[door, "none" if status is None else str(status)] += 1
        if status is None or status < 500 or status in _ALLOWED_STATUS:
            return
        if status == 503 and SPARE.encode() in request:
            return
        self.fail(number, f"{door} answered {status}: {body[:200]!r}")

    def grpc(self, number: int, door: str, code: str, details: str) -> None:
        if code == "INTERNAL" and details == _CLIENT_ERROR:
            code = "ended early"
        self.outcomes[door, code] += 1
        if code in _FAULTS or (code == "UNAVAILABLE" and SPARE not in details):
            self.fail(number, f"{door} ended with {code}: {details[:200]!r}")

    def fail(self, number: int, reason: str) -> None:
        self.outcomes["all", "failure"] += 1
        if len(self.failures) < _MAX_KEPT:
            self.failures.append(f"request {number}: {reason}")

    @property
    def count(self) -> int:
        return sum(count for (door, _), count in self.outcomes.items() if door != "all")

    def save(self, file: Path) -> None:
        outcomes = [[*key, count] for key, count in sorted(self.outcomes.items())]
        text = json.dumps({"next": self.next, "outcomes": outcomes, "failures": self.failures})
        partial = file.with_name(file.name + ".partial")
        partial.write_text(text)
        partial.replace(file)

    @classmethod
    def load(cls, file: Path) -> "Tally":
        if not file.exists():
            return cls()
        saved: dict[str, Any] = json.loads(file.read_text())
        outcomes = Counter({(door, outcome): count for door, outcome, count in saved["outcomes"]})
        return cls(outcomes, saved["failures"], saved["next"])
