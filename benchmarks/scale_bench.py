"""What the parts of benchmarks/scale.py share: cores, rounds, and how contenders take turns."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.overhead import Contender

ROW = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 16)


@dataclass(frozen=True)
class Bench:
    """cores: those of the servers, the load generator's left out, unless there is only one. folder: empty, to use."""

    cores: tuple[int, ...]
    folder: Path
    short: bool

    @property
    def rounds(self) -> int:
        return 3 if self.short else 7

    @property
    def seconds(self) -> float:
        """Of one contender in one round."""
        return 1.0 if self.short else 3.0

    def take_turns(self, contenders: Iterable[tuple[Contender, int]]) -> None:
        """Each with its number of requests in flight; every other round in the opposite order."""
        every = list(contenders)
        for _ in range(self.rounds):
            for contender, in_flight in every:
                contender.measure(self.seconds, in_flight)
            every.reverse()
