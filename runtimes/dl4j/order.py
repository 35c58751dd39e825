"""The order in which DL4J goes through a ComputationGraph: parameters lie in it."""

from collections import deque
from typing import Dict, List, Sequence

from runtimes.contract import LoadError


def topological(inputs: Sequence[str], reads: Dict[str, Sequence[str]]) -> List[str]:
    """Inputs and vertices, as ComputationGraph.topologicalSortOrder of DL4J sorts them. Raises LoadError for a cycle.

    reads: vertex → what it reads, in the file's order of vertices
    """
    names = [*inputs, *reads]
    number = {name: place for place, name in enumerate(names)}
    waits = {name: set(reads.get(name, ())) for name in names}
    readers: Dict[str, List[int]] = {name: [] for name in names}
    for name, sources in reads.items():
        for source in dict.fromkeys(sources):
            readers[source].append(number[name])
    ready = deque(name for name in names if not waits[name])
    order = []
    while ready:
        name = ready.popleft()
        order.append(name)
        for reader in _as_in_java(readers[name]):
            waits[names[reader]].discard(name)
            if not waits[names[reader]]:
                ready.append(names[reader])
    if len(order) != len(names):
        stuck = next(name for name in names if waits[name])
        raise LoadError("the graph's vertex '%.60s' waits for itself" % stuck)
    return order


def _as_in_java(numbers: List[int]) -> List[int]:
    """The order in which a HashSet of these gives them: by bucket, and a bucket's in the order they came."""
    buckets = 16
    while len(numbers) > 0.75 * buckets:
        buckets *= 2
    return sorted(numbers, key=lambda number: number & (buckets - 1))
