"""The order in which functions are computed, and which of them form a loop."""

from typing import Dict, FrozenSet, Iterator, List, Sequence, Tuple

from .functions import Function, Network, producer

# The functions of a loop and True, or a single function and False.
Step = Tuple[List[Function], bool]
# Of results that depend on different arguments. Real models have a few.
_MAX_SETS = 1000


def topological_order(network: Network) -> List[Step]:
    """Return what the results need in topological order.

    This is Tarjan's algorithm for strongly connected components, with an explicit stack, because chains of functions
    in a file can be longer than Python's recursion limit.
    """
    functions = network.functions
    reads = {uid: _sources(function, functions) for uid, function in functions.items()}
    number: Dict[str, int] = {}
    low: Dict[str, int] = {}
    stack: List[str] = []
    on_stack = set()
    steps: List[Step] = []
    for result in network.results:
        start = producer(result.uid)[0]
        if start not in functions or start in number:
            continue
        path = [(start, iter(reads[start]))]
        number[start] = low[start] = len(number)
        stack.append(start)
        on_stack.add(start)
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
                        members.append(stack.pop())
                        on_stack.discard(members[-1])
                    steps.append(([functions[each] for each in members], len(members) > 1 or uid in reads[uid]))
            elif following not in number:
                number[following] = low[following] = len(number)
                stack.append(following)
                on_stack.add(following)
                path.append((following, iter(reads[following])))
            elif following in on_stack:
                low[uid] = min(low[uid], number[following])
    return steps


def sources_of(network: Network, order: Sequence[Step]) -> Dict[str, FrozenSet[str]]:
    """Return, for each result, the uids of the arguments that it depends on; all, if results differ too much."""
    arguments = [each.uid for each in network.arguments]
    bits = {uid: 1 << number for number, uid in enumerate(arguments)}  # of sets, by uid of a variable or function
    for functions, _ in order:
        below = 0
        for function in functions:
            for uid in function.inputs:
                below |= bits.get(producer(uid)[0] or uid, 0)
        bits.update((function.uid, below) for function in functions)
    found = {each.uid: bits.get(producer(each.uid)[0] or each.uid, 0) for each in network.results}
    if len(set(found.values())) > _MAX_SETS:
        return dict.fromkeys(found, frozenset(arguments))
    sets = {below: frozenset(arguments[number] for number in _ones(below)) for below in set(found.values())}
    return {uid: sets[below] for uid, below in found.items()}


def _ones(bits: int) -> Iterator[int]:
    while bits:
        yield (bits & -bits).bit_length() - 1
        bits &= bits - 1


def _sources(function: Function, functions: Dict[str, Function]) -> List[str]:
    owners = (producer(uid)[0] for uid in function.inputs)
    return list(dict.fromkeys(uid for uid in owners if uid in functions))
