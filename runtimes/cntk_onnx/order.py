"""In which order functions are computed, and which of them are one loop."""

from typing import Dict, List, Tuple

from .functions import Function, Network, owner

Step = Tuple[List[Function], bool]


def in_order(network: Network) -> List[Step]:
    """What the results need, each step after what it reads: one function, or those of a loop (True).

    Tarjan's strongly connected components, with a stack of its own: files may be as long as they like.
    """
    functions = network.functions
    reads = {uid: _read(function, functions) for uid, function in functions.items()}
    number: Dict[str, int] = {}
    low: Dict[str, int] = {}
    waiting: List[str] = []
    waits = set()
    steps: List[Step] = []
    for result in network.results:
        start = owner(result.uid)[0]
        if start not in functions or start in number:
            continue
        path = [(start, iter(reads[start]))]
        number[start] = low[start] = len(number)
        waiting.append(start)
        waits.add(start)
        while path:
            uid, rest = path[-1]
            following = next(rest, None)
            if following is None:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[uid])
                if low[uid] == number[uid]:
                    members = []
                    while not members or members[-1] != uid:
                        members.append(waiting.pop())
                        waits.discard(members[-1])
                    steps.append(([functions[each] for each in members], len(members) > 1 or uid in reads[uid]))
            elif following not in number:
                number[following] = low[following] = len(number)
                waiting.append(following)
                waits.add(following)
                path.append((following, iter(reads[following])))
            elif following in waits:
                low[uid] = min(low[uid], number[following])
    return steps


def _read(function: Function, functions: Dict[str, Function]) -> List[str]:
    owners = (owner(uid)[0] for uid in function.inputs)
    return list(dict.fromkeys(uid for uid in owners if uid in functions))
