"""What a profile has found out. All files are made from this."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.profile.point import Point
from gateway.profile.recommendation import Recommendation
from runtimes.contract import Signature
from runtimes.profiling import GraphNode, OperatorProfile


class Machine(NamedTuple):
    """The machine of a profile.

    cores         those that this process may use
    memory_bytes  of the machine
    load          runnable processes in the minute before the profile, on average
    """

    system: str
    processor: str
    cores: int
    memory_bytes: int
    load: float


class Trace(NamedTuple):
    """One inference, seen by the framework's own profiler.

    rows       as in Point
    threads    how many it used
    nodes      of the model's graph; empty if the runtime does not report them
    operators  None if the runtime does not report their times
    """

    rows: int
    threads: int
    nodes: Sequence[GraphNode] = ()
    operators: OperatorProfile | None = None


@dataclass(frozen=True)
class Profile:
    """A profile of one signature of a model's version.

    signature       the name; `interface` has its inputs and outputs
    origin          where the inputs came from, in words
    shapes          input → shape of the inputs that were used
    batching        how a worker batches requests, in a sentence
    load_seconds    how long the model took to load
    load_peak_bytes  resident memory at the peak until then; and loaded_bytes when it was loaded
    versions        distribution → version, in the model's environment
    latency_target_ms  0 if there is none
    recommendation  None if nothing was measured
    notes           what is missing and why, in sentences
    finished        False if it was stopped before the end
    """

    model: str
    version: str
    platform: str
    runtime: str
    signature: str
    interface: Signature
    origin: str
    shapes: Mapping[str, Sequence[int]]
    batching: str
    load_seconds: float
    load_peak_bytes: int
    loaded_bytes: int
    machine: Machine
    versions: Mapping[str, str]
    modelport: str
    created: str
    latency_target_ms: float
    points: Sequence[Point]
    trace: Trace
    recommendation: Recommendation | None = None
    notes: Sequence[str] = ()
    finished: bool = True
