"""Which loaded models are unloaded to make room for others: pure functions, tested as tables and by traces.

The worth of a model is the time that its loads would cost if it were not there: how often it is used, times the
seconds of a load, for each byte that it takes (GDSF). How often it is used is a count that halves within a time
(LFU with ageing), and outlives the model's stay in memory, so that a model which comes back is known.
docs/many-models.md compares this with other policies.
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from statistics import median
from typing import NamedTuple, TypeVar

_KeyT = TypeVar("_KeyT", bound=Hashable)

# Seconds after which a use counts half. A longer time makes the counts of steady traffic more exact; a shorter one
# forgets models sooner that are no longer used.
HALF_LIFE_S = 600.0
# Costs of loads count as alike if they differ by less than this factor.
_ALIKE = 4.0


class Candidate(NamedTuple):
    """A model that may be unloaded. size: in bytes. worth: for each byte; what is worth least goes first."""

    name: Hashable
    size: int
    worth: float


class Known(NamedTuple):
    """What is known of a loaded model. uses: with ageing. load_s: of its quickest load. size: in bytes."""

    uses: float
    load_s: float
    size: int


def worths(models: Sequence[Known]) -> list[float]:
    """Return what each model is worth for each byte, compared with the others.

    What a load costs for each byte counts if it differs clearly from that of the others. It is never measured exactly,
    and chance must not decide between models that are alike, but their use.
    """
    costs = [max(each.load_s, 1e-4) / max(each.size, 1) for each in models]
    usual = median(costs) if costs else 1.0
    ratios = [cost / usual for cost in costs]
    return [
        each.uses * (1.0 if 1 / _ALIKE < ratio < _ALIKE else ratio) for each, ratio in zip(models, ratios, strict=True)
    ]


def choose(candidates: Iterable[Candidate], missing: int) -> list[Candidate]:
    """Return which models to unload to free `missing` bytes, those that are worth least; all, if they do not suffice.

    Those that are not needed for that after all, because a larger one came later, stay.
    """
    chosen, freed = [], 0
    for candidate in sorted(candidates, key=lambda each: each.worth):
        if freed >= missing:
            break
        chosen.append(candidate)
        freed += candidate.size
    for candidate in sorted(chosen, key=lambda each: -each.worth):
        if freed - candidate.size >= missing:
            chosen.remove(candidate)
            freed -= candidate.size
    return chosen


class Uses:
    """How often something was used, with ageing."""

    __slots__ = ("_at", "_count", "last")

    def __init__(self) -> None:
        self._count = 0.0
        self._at = 0.0
        self.last = 0.0  # when it was used last, as far as it is known

    def add(self, count: int, now: float) -> None:
        """Add uses that have happened until now. `now`: in seconds of any clock that does not go back."""
        self._count = self.count(now) + count
        self._at = self.last = now

    def count(self, now: float) -> float:
        return self._count * math.exp2((self._at - now) / HALF_LIFE_S)
