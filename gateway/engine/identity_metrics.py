"""What each identity has used in one front, as plain counters."""

from dataclasses import asdict, dataclass, field
from typing import Any

# Identities with counters of their own. The issuers of tokens choose their names, so there must be a limit; with a
# smaller one, figures of more of them are summed.
_MAX_IDENTITIES = 200
# The name under which all others are counted.
OTHERS = "(others)"


@dataclass(slots=True)
class IdentityCounts:
    """refused: requests that a limit refused, by the name of the limit."""

    requests: int = 0
    input_bytes: int = 0
    compute_s: float = 0.0
    refused: dict[str, int] = field(default_factory=dict)

    def count_refused(self, limit: str) -> None:
        self.refused[limit] = self.refused.get(limit, 0) + 1


class IdentityMetrics:
    def __init__(self) -> None:
        self._by_name: dict[str, IdentityCounts] = {}

    def of(self, name: str) -> IdentityCounts:
        counts = self._by_name.get(name)
        if counts is None:
            if len(self._by_name) >= _MAX_IDENTITIES:
                name = OTHERS
            counts = self._by_name.setdefault(name, IdentityCounts())
        return counts

    def snapshot(self) -> list[dict[str, Any]]:
        return [{"identity": name, **asdict(counts)} for name, counts in self._by_name.items()]
