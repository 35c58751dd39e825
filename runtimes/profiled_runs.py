"""What the profiles of all frameworks have in common: how often a model runs, and which run is reported."""

import time
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple, TypeVar

from runtimes.profiling import OperatorProfile

_WARM_UPS = 3
# More runs make the median more stable, but traces of large models have thousands of events per run.
_MIN_RUNS, _MAX_RUNS, _SECONDS = 3, 15, 2.0

Run = TypeVar("Run")


class Span(NamedTuple):
    """What a profiler says about an operator: any key, microseconds by any clock, and its thread.

    own_us  the duration without that of the spans within it; 0 until `self_times` has computed it
    """

    key: Any
    start_us: float
    duration_us: float
    thread: Any = 0
    own_us: float = 0.0

    @property
    def end_us(self) -> float:
        return self.start_us + self.duration_us


def unprofiled(infer: Callable[[], Any]) -> Tuple[float, int]:
    """Run a model several times. Returns the median duration in microseconds, and how many runs to profile."""
    for _ in range(_WARM_UPS):
        last = duration_us(infer)
    count = max(_MIN_RUNS, min(_MAX_RUNS, int(_SECONDS * 1e6 / max(last, 1.0))))
    return sorted(duration_us(infer) for _ in range(count))[count // 2], count


def duration_us(infer: Callable[[], Any]) -> float:
    began = time.perf_counter()
    infer()
    return (time.perf_counter() - began) * 1e6


def without_operators(profiler: str, us: float, runs: int, reason: str) -> OperatorProfile:
    """Return the profile of a model that the profiler cannot profile. us: without it. reason: why, in a sentence."""
    return OperatorProfile(profiler, (), us, us, runs, (reason,))


def median_run(runs: Sequence[Tuple[float, Run]]) -> Tuple[float, Run]:
    """Return the run with the median duration. Each is a duration and anything else."""
    return sorted(runs, key=lambda run: run[0])[len(runs) // 2]


def within(spans: Sequence[Span], around: Span) -> List[Span]:
    """Return the spans that begin during another, on any thread."""
    return [span for span in spans if around.start_us <= span.start_us < around.end_us]


def self_times(spans: Sequence[Span]) -> List[Span]:
    """Return spans by start, each with the duration without those within it on the same thread."""
    ordered = sorted(spans, key=lambda span: (span.start_us, -span.duration_us))
    own = [span.duration_us for span in ordered]
    open_spans = {}  # type: Dict[Any, List[int]]
    for index, span in enumerate(ordered):
        around = open_spans.setdefault(span.thread, [])
        while around and ordered[around[-1]].end_us <= span.start_us:
            around.pop()
        if around:
            # Clocks of whole microseconds can make a span seem to end after the one around it.
            own[around[-1]] -= min(span.end_us, ordered[around[-1]].end_us) - span.start_us
        around.append(index)
    return [span._replace(own_us=max(each, 0.0)) for span, each in zip(ordered, own)]


def lanes(threads: Sequence[Any]) -> Dict[Any, int]:
    """Number threads from 0, in the order in which they first appear."""
    return {thread: lane for lane, thread in enumerate(dict.fromkeys(threads))}
