"""The server's readiness, which latches: see docs/decisions/0004-readiness-latches.md."""

import logging
from collections.abc import Iterable

from gateway.lifecycle.policy import TRANSIENT, State
from gateway.lifecycle.version import Version

log = logging.getLogger("models")


class Readiness:
    """strict: whether all versions must accept requests, at start and later.

    has_begun  set when all that a complete scan has found is among the versions; before that, nothing is ready
    """

    def __init__(self, strict: bool) -> None:
        self.has_begun = False
        self._strict = strict
        self._has_settled = False

    def is_ready(self, versions: Iterable[Version], can_scan: bool) -> bool:
        """Return the server's readiness after any change of its versions. can_scan: whether the last scan succeeded.

        Once all versions have loaded or failed, it stays ready: loading another model later must not make load
        balancers stop sending requests for the others.
        """
        if not self.has_begun:
            return False
        current = [version for version in versions if not version.unloading]
        if not self._has_settled and all(version.state not in TRANSIENT for version in current):
            self._has_settled = True
            ready = sum(version.state is State.READY for version in current)
            unloaded = sum(version.state is State.UNLOADED for version in current)
            note = f", {unloaded} are loaded on demand" if unloaded else ""
            log.info("startup is complete: %d of %d model versions are READY%s", ready, len(current), note)
        if not can_scan and current and not any(version.admits for version in current):
            return False  # no version can answer, and the repository cannot provide new ones
        if self._strict:
            return self._has_settled and all(version.admits for version in current)
        return self._has_settled
