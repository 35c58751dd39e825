"""The order of a graph's vertices, which is that of their parameters: ComputationGraph.calculateIndices."""

from collections.abc import Iterable

from tests.unit.runtimes.dl4j.reference_parameters import Configuration


def java_order(numbers: Iterable[int]) -> list[int]:
    """Return the iteration order of a HashSet<Integer> to which these numbers were added: by their low bits.

    So from 16 vertices on, 17 may come before 2. Long chains in one bucket (8 and more) are not handled.
    """
    added = list(dict.fromkeys(numbers))
    capacity = 16
    while len(added) > 0.75 * capacity:
        capacity *= 2
    return sorted(added, key=lambda number: number & (capacity - 1))


def topological_order(configuration: Configuration) -> list[str]:
    """Return names, including the inputs'. Files from beta4 on have the order; else Kahn's algorithm computes it."""
    if configuration.get("topologicalOrder") and configuration.get("topologicalOrderStr"):
        return list(configuration["topologicalOrderStr"])
    names = [*configuration["networkInputs"], *configuration["vertices"]]
    number = {name: k for k, name in enumerate(names)}
    waiting = {
        k: {number[each] for each in configuration["vertexInputs"].get(name, [])} for k, name in enumerate(names)
    }
    following: dict[int, list[int]] = {k: [] for k in range(len(names))}
    for name in configuration["vertices"]:
        # DL4J adds the inputs' numbers to a set. Then each of them gets this vertex.
        for each in configuration["vertexInputs"].get(name, []):
            following[number[each]].append(number[name])
    ready = [k for k in range(len(names)) if not waiting[k]]
    order = []
    while ready:
        now = ready.pop(0)
        order.append(names[now])
        for after in java_order(following[now]):
            waiting[after].discard(now)
            if not waiting[after]:
                ready.append(after)
    assert len(order) == len(names), "a cycle"
    return order
