"""Shared by the parts of benchmarks/scale.py: cores, rounds, and how contenders take turns."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.overhead import Contender
from benchmarks.report import median_and_spread, ratio

COUNTS = (1, 2, 4, 8)
COST_HEAD = ("CPU µs a request", "of one", "of one (minima)")


@dataclass(frozen=True)
class Bench:
    """The conditions that all parts share.

    cores: the servers' cores, which include the load generator's only if the machine has just one.
    folder: a folder for scratch files.
    """

    cores: tuple[int, ...]
    folder: Path
    short: bool

    @property
    def rounds(self) -> int:
        return 3 if self.short else 7

    @property
    def seconds(self) -> float:
        """How long one contender runs in one round, in seconds."""
        return 1.0 if self.short else 3.0

    def take_turns(self, contenders: Iterable[tuple[Contender, int]]) -> None:
        """Measure each contender with its number of requests in flight. Every other round runs in reverse order."""
        every = list(contenders)
        for _ in range(self.rounds):
            for contender, in_flight in every:
                contender.measure(self.seconds, in_flight)
            every.reverse()

    def possible(self, cores: Callable[[int], int]) -> list[int]:
        """Return the COUNTS for which the machine has enough cores."""
        return [count for count in COUNTS if cores(count) <= len(self.cores)]

    def missed(self, what: str, measured: list[int], need: str) -> list[str]:
        """Return a sentence about the COUNTS that were not measured, if there are any."""
        left = " and ".join(str(count) for count in COUNTS[1:] if count not in measured)
        sentence = f"{left} {what} could not be measured: {need}, and there are {len(self.cores)} and that one."
        return [sentence] if left else []


def cost(contender: Contender, one: Contender) -> list[str]:
    """Return the cells of COST_HEAD: the CPU time per request, and its ratio to that of `one`."""
    cells = [median_and_spread(contender.cpu_us)]
    if contender is one:
        return [*cells, "", ""]
    return [*cells, ratio(contender.cpu_us, one.cpu_us), f"{min(contender.cpu_us) / min(one.cpu_us):.2f}"]
