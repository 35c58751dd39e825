"""The order in which DL4J walks a ComputationGraph, which is also the order of its parameters in the file."""

from collections import deque
from typing import Dict, List, Sequence

from runtimes.contract import LoadError


def topological_order(inputs: Sequence[str], reads: Dict[str, Sequence[str]]) -> List[str]:
    """Sort inputs and vertices as DL4J's ComputationGraph.topologicalSortOrder does. Raises LoadError for a cycle.

    reads  vertex → the names of its inputs, with the vertices in the order of the file
    """
    names = [*inputs, *reads]
    number = {name: index for index, name in enumerate(names)}
    pending = {name: set(reads.get(name, ())) for name in names}
    readers: Dict[str, List[int]] = {name: [] for name in names}
    for name, sources in reads.items():
        for source in dict.fromkeys(sources):
            readers[source].append(number[name])
    ready = deque(name for name in names if not pending[name])
    order = []
    while ready:
        name = ready.popleft()
        order.append(name)
        for reader in _in_hash_set_order(readers[name]):
            pending[names[reader]].discard(name)
            if not pending[names[reader]]:
                ready.append(names[reader])
    if len(order) != len(names):
        stuck = next(name for name in names if pending[name])
        raise LoadError("the graph's vertex '%.60s' depends on itself" % stuck)
    return order


def _in_hash_set_order(numbers: List[int]) -> List[int]:
    """Return the iteration order of a Java HashSet<Integer>: by bucket, and within a bucket by insertion.

    An Integer's hash is its value. HashMap starts with 16 buckets and doubles them at a load factor of 0.75.
    """
    buckets = 16
    while len(numbers) > 0.75 * buckets:
        buckets *= 2
    return sorted(numbers, key=lambda number: number & (buckets - 1))
