"""Which numbers an input may hold, as far as the operators say so that take it.

An input is followed through what only moves its numbers, and through sums and products with constants, up to the table
whose rows they pick or the limits at which they are cut off.
"""

from typing import Callable, Dict, Mapping, NamedTuple, Optional, Tuple

from runtimes.contract import InputRange
from runtimes.dataflow.graph import Graph, Node, Tensor

# How exporters write that there is no limit: the largest number of 32 bits, or of floats.
_NO_LIMIT = 2e9


class _Line(NamedTuple):
    """A tensor that holds scale * number + shift for each number of an input."""

    input: str
    scale: float = 1.0
    shift: float = 0.0


class Ranges:
    """What is known so far, for the rules of a format's operators. `found` is what came of it, by input."""

    def __init__(self, graph: Graph) -> None:
        self._constants = {tensor.name: tensor for tensor in graph.constants}
        self._lines = {name: _Line(name) for name, _ in graph.inputs if name not in self._constants}
        self.found = {}  # type: Dict[str, InputRange]

    def constant(self, name: str, tensor: Tensor) -> None:
        self._constants[name] = tensor

    def rows_of(self, name: str, axis: int = 0) -> Optional[int]:
        """The size of a constant along an axis; None where it is no constant."""
        dims = self._constants[name].dims if name in self._constants else ()
        return dims[axis] if -len(dims) <= axis < len(dims) else None

    def number(self, name: str) -> Optional[float]:
        """A constant's number, where all of its elements are one."""
        tensor = self._constants.get(name)
        distinct = set(tensor.contents or ()) if tensor is not None else ()
        return float(next(iter(distinct))) if len(distinct) == 1 else None

    def same(self, node: Node) -> None:
        """Its outputs hold numbers of its first input, in whatever order and shape."""
        for output in node.outputs:
            self.moved(node.inputs[0], output)

    def copied(self, node: Node, contents: bool = True) -> None:
        """Its output has the sizes of its first input, where that is a constant, and the same numbers or others."""
        tensor = self._constants.get(node.inputs[0])
        if tensor is not None:
            self._constants[node.outputs[0]] = tensor if contents else tensor._replace(contents=None)

    def moved(self, name: str, output: str, scale: float = 1.0, shift: float = 0.0) -> None:
        """The output is scale * name + shift."""
        line = self._lines.get(name)
        if line is not None and scale:
            self._lines[output] = _Line(line.input, line.scale * scale, line.shift * scale + shift)

    def between(self, name: str, low: float, high: float, rows: bool = False) -> None:
        """The tensor's numbers have a meaning from low to high: see InputRange."""
        line = self._lines.get(name)
        if line is None or not -_NO_LIMIT < low <= high < _NO_LIMIT:
            return
        ends = sorted((end - line.shift) / line.scale for end in (low, high))
        wanted, known = InputRange(ends[0], ends[1], rows), self.found.get(line.input)
        if known is None or (rows and not known.rows):
            self.found[line.input] = wanted
        elif rows:  # rows of both tables
            self.found[line.input] = InputRange(max(known.low, ends[0]), min(known.high, ends[1]), True)
        elif not known.rows:
            self.found[line.input] = InputRange(min(known.low, ends[0]), max(known.high, ends[1]))


Rule = Callable[[Ranges, Node], None]


def ranges_of(graph: Graph, rules: Mapping[Tuple[str, str], Rule]) -> Dict[str, InputRange]:
    """Input → range, of those for which one was found. rules: by domain and operator.

    Graphs within the graph are not looked at.
    """
    ranges = Ranges(graph)
    for node in graph.nodes:
        rule = rules.get((node.domain, node.operator))
        if rule is not None:
            rule(ranges, node)
    return {name: found for name, found in ranges.found.items() if found.low <= found.high}
