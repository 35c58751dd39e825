"""Which models to unload for others: policies on the same traces, against the best that is possible (Belady's MIN).

    python -m benchmarks.eviction_policies [--models 1000] [--room 50] [--requests 50000]

Requests follow Zipf's law, with models in random order. The optimum knows the future: it unloads the model whose next
request is the furthest away. Every request must load its model, so no policy may refuse one. A policy is its hits, in
parts of the optimum's.
"""

import argparse
import itertools
import random
from bisect import bisect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from benchmarks.report import table
from gateway.lifecycle import eviction

Policy = Callable[[Sequence[int], int], int]


def trace(models: int, requests: int, exponent: float, seed: int = 0) -> list[int]:
    """Return the models of requests that follow Zipf's law."""
    source = random.Random(seed)
    names = list(range(models))
    source.shuffle(names)
    sums = list(itertools.accumulate(1 / (rank + 1) ** exponent for rank in range(models)))
    return [names[bisect(sums, source.random() * sums[-1])] for _ in range(requests)]


def optimum(requests: Sequence[int], room: int) -> int:
    """Return the hits of Belady's MIN."""
    following, last = [0] * len(requests), dict[int, int]()
    for number in range(len(requests) - 1, -1, -1):
        following[number] = last.get(requests[number], len(requests))
        last[requests[number]] = number
    loaded: dict[int, int] = {}
    furthest: list[tuple[int, int]] = []
    hits = 0
    for model, next_use in zip(requests, following, strict=True):
        if model in loaded:
            hits += 1
        elif len(loaded) >= room:
            while True:
                use, other = heappop(furthest)
                if loaded.get(other) == -use:
                    del loaded[other]
                    break
        loaded[model] = next_use
        heappush(furthest, (-next_use, model))
    return hits


def least_recently_used(requests: Sequence[int], room: int) -> int:
    loaded: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for model in requests:
        if model in loaded:
            hits += 1
        elif len(loaded) >= room:
            loaded.popitem(last=False)
        loaded[model] = None
        loaded.move_to_end(model)
    return hits


def by_two_uses(requests: Sequence[int], room: int) -> int:
    """LRU-2: the model goes whose last use but one is the longest ago."""
    uses: dict[int, tuple[int, int]] = {}
    loaded: set[int] = set()
    hits = 0
    for number, model in enumerate(requests):
        if model in loaded:
            hits += 1
        elif len(loaded) >= room:
            loaded.remove(min(loaded, key=uses.__getitem__))
        loaded.add(model)
        uses[model] = uses.get(model, (-1, -1))[1], number
    return hits


def greedy_dual(requests: Sequence[int], room: int) -> int:
    """GDSF for models of one size: uses since it was loaded, on top of the rank of what was unloaded last."""
    ranks: dict[int, float] = {}
    uses: dict[int, int] = {}
    floor, hits = 0.0, 0
    for model in requests:
        if model in ranks:
            hits += 1
        else:
            if len(ranks) >= room:
                victim = min(ranks, key=ranks.__getitem__)
                floor = ranks.pop(victim)
            uses[model] = 0
        uses[model] += 1
        ranks[model] = floor + uses[model]
    return hits


def ours(requests: Sequence[int], room: int) -> int:
    """The gateway's functions, at 100 requests a second."""
    uses: dict[int, eviction.Uses] = {}
    loaded: set[int] = set()
    hits = 0
    for number, model in enumerate(requests):
        now = number / 100
        uses.setdefault(model, eviction.Uses()).add(1, now)
        if model in loaded:
            hits += 1
            continue
        if len(loaded) >= room:
            known = [eviction.Known(uses[each].count(now), 0.01, 1) for each in loaded]
            worths = zip(loaded, eviction.worths(known), strict=True)
            loaded -= {each.name for each in eviction.choose([eviction.Candidate(m, 1, w) for m, w in worths], 1)}
        loaded.add(model)
    return hits


POLICIES: dict[str, Policy] = {
    "least recently used": least_recently_used,
    "LRU-2": by_two_uses,
    "GDSF, uses since it was loaded": greedy_dual,
    "ours: uses with ageing, also of what is not loaded": ours,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--room", type=int, default=50)
    parser.add_argument("--requests", type=int, default=50_000)
    arguments = parser.parse_args()
    exponents = (0.9, 1.0, 1.1, 1.2)
    traces = {each: trace(arguments.models, arguments.requests, each) for each in exponents}
    best = {each: optimum(requests, arguments.room) for each, requests in traces.items()}
    rows = [["optimum: hits of all requests", *(f"{best[each] / arguments.requests:.3f}" for each in exponents)]]
    for name, policy in POLICIES.items():
        parts = [policy(traces[each], arguments.room) / best[each] for each in exponents]
        rows.append([name, *(f"{part:.3f}" for part in parts)])
    print(f"{arguments.models} models, room for {arguments.room}, {arguments.requests} requests\n")
    print(table(["Zipf's exponent", *map(str, exponents)], rows))


if __name__ == "__main__":
    main()
