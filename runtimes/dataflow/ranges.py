"""Finds the range of an input's numbers from the operators that use it.

An input is followed through operators that only rearrange its numbers, and through sums and products with constants, up
to a table that its numbers index or limits to which they are clipped.
"""

import itertools
from typing import Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple

from runtimes.contract import InputRange
from runtimes.dataflow.graph import Function, Graph, Model, Node, Tensor

# Limits from here on count as none, because exporters write the largest integer of 32 bits or the largest float for "no
# limit".
_NO_LIMIT = 2e9
_MAX_DEPTH = 20  # of nested calls and graphs
_MAX_NODES = 400000  # over all calls and graphs, as in walk.py: limits the time to some seconds


class _Line(NamedTuple):
    """A tensor that contains scale * number + shift for each number of an input."""

    input: str
    scale: float = 1.0
    shift: float = 0.0


class Ranges:
    """What is known about a graph so far; the argument of the rules for a format's operators.

    found: the ranges found, by input. constants: the constants of the graph. inputs: the tensors that are inputs.
    """

    def __init__(
        self,
        rules: "Rules",
        functions: Mapping[Tuple[str, str], Function],
        constants: Mapping[str, Tensor],
        inputs: Mapping[str, "_Line"],
        depth: int = 0,
        read: Optional[Iterator[int]] = None,
    ) -> None:
        self._rules, self._functions, self._depth = rules, functions, depth
        self._read = itertools.count() if read is None else read
        self._constants, self._lines = dict(constants), dict(inputs)
        self._cut = {}  # type: Dict[str, Tuple[str, bool, float]]
        self.found = {}  # type: Dict[str, InputRange]

    def nodes(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            if next(self._read) > _MAX_NODES:
                return
            key = (node.domain, node.operator)
            if key in self._rules:
                self._rules[key](self, node)
            elif key in self._functions:
                self.call(node, node.domain, node.operator)

    def call(self, node: Node, domain: str, name: str) -> None:
        """Follow a function that the node calls with its inputs and outputs."""
        function = self._functions.get((domain, name))
        if function is not None:
            inside = self._inside(node.inputs, function.inputs, (), function.nodes)
            self._taken(inside, node.outputs, function.outputs)

    def graph(self, graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Follow a graph inside this one, for these inputs and outputs; "" for those that are not followed."""
        names = [name for name, _ in graph.inputs]
        self._taken(self._inside(inputs, names, graph.constants, graph.nodes), outputs, graph.outputs)

    def _inside(
        self, given: Sequence[str], names: Sequence[str], constants: Sequence[Tensor], nodes: Sequence[Node]
    ) -> "Ranges":
        pairs = list(zip(names, given))
        known = {tensor.name: tensor for tensor in constants}
        known.update((inner, self._constants[outer]) for inner, outer in pairs if outer in self._constants)
        lines = {inner: self._lines[outer] for inner, outer in pairs if outer in self._lines}
        inside = Ranges(self._rules, self._functions, known, lines, self._depth + 1, self._read)
        inside.found = self.found
        if self._depth < _MAX_DEPTH:
            inside.nodes(nodes)
        return inside

    def _taken(self, inside: "Ranges", outputs: Sequence[str], names: Sequence[str]) -> None:
        for outer, inner in zip(outputs, names):
            if outer and inner in inside._lines:
                self._lines[outer] = inside._lines[inner]
            if outer and inner in inside._constants:
                self._constants[outer] = inside._constants[inner]

    def constant(self, name: str, tensor: Tensor) -> None:
        self._constants[name] = tensor

    def rows_of(self, name: str, axis: int = 0) -> Optional[int]:
        """Return the size of a constant along an axis, or None if the tensor is not a constant."""
        dims = self._constants[name].dims if name in self._constants else ()
        return dims[axis] if -len(dims) <= axis < len(dims) else None

    def number(self, name: str) -> Optional[float]:
        """Return the number that all elements of a constant are equal to, or None."""
        tensor = self._constants.get(name)
        distinct = set(tensor.contents or ()) if tensor is not None else ()
        only = next(iter(distinct)) if len(distinct) == 1 else None
        return float(only) if isinstance(only, (bool, int, float)) else None

    def same(self, node: Node) -> None:
        """Record that the outputs contain numbers of the first input, in any order and shape."""
        for output in node.outputs:
            self.moved(node.inputs[0], output)

    def copied(self, node: Node, contents: bool = True) -> None:
        """Record that the output has the sizes of the first input if that is a constant, and perhaps its contents."""
        tensor = self._constants.get(node.inputs[0])
        if tensor is not None:
            self._constants[node.outputs[0]] = tensor if contents else tensor._replace(contents=None)

    def moved(self, name: str, output: str, scale: float = 1.0, shift: float = 0.0) -> None:
        """Record that the output is scale * name + shift."""
        line = self._lines.get(name)
        if line is not None and scale:
            self._lines[output] = _Line(line.input, line.scale * scale, line.shift * scale + shift)

    def either(self, names: Sequence[str], output: str) -> None:
        """Record that the output contains numbers of these tensors.

        If all come from one input, the one with the smallest shift is used, because graphs add the size of the table to
        negative ids and select between the two.
        """
        lines = [self._lines[name] for name in names if name in self._lines]
        if lines and len({(line.input, line.scale) for line in lines}) == 1:
            self._lines[output] = min(lines, key=lambda line: line.shift)

    def cut(self, name: str, output: str, limit: Optional[float], upper: bool) -> None:
        """Record that the output is the tensor clipped at one end. If both ends are clipped, they are its range.

        If only one end is clipped, the output is followed further, because a table may show the other end.
        """
        if limit is None:
            return
        before, other, end = self._cut.get(name, ("", upper, 0.0))
        if other != upper:
            self.between(before, *((end, limit) if upper else (limit, end)))
        else:
            self._cut[output] = (name, upper, limit)
            self.moved(name, output)

    def picks(self, name: str, size: Optional[int]) -> None:
        """Record that the tensor's numbers are indices below `size`, of a table for example; None or 0 if unknown."""
        if size:
            self.between(name, 0, size - 1, rows=True)

    def between(self, name: str, low: float, high: float, rows: bool = False) -> None:
        """Record the range of the tensor's numbers; rows: as in InputRange."""
        line = self._lines.get(name)
        if line is None or not -_NO_LIMIT < low <= high < _NO_LIMIT:
            return
        ends = sorted((end - line.shift) / line.scale for end in (low, high))
        new, known = InputRange(ends[0], ends[1], rows), self.found.get(line.input)
        if known is None or (rows and not known.rows):
            self.found[line.input] = new
        elif rows:  # the numbers index both tables
            differ = known.tables_differ or known[:2] != new[:2]
            self.found[line.input] = InputRange(max(known.low, ends[0]), min(known.high, ends[1]), True, differ)
        elif not known.rows:
            self.found[line.input] = InputRange(min(known.low, ends[0]), max(known.high, ends[1]))


Rule = Callable[[Ranges, Node], None]
Rules = Mapping[Tuple[str, str], Rule]  # by domain and operator


def constant(ranges: Ranges, node: Node) -> None:
    """Handle a node with a constant in an attribute."""
    value = node.attributes.get("value")
    if isinstance(value, Tensor):
        ranges.constant(node.outputs[0], value)


def passed(ranges: Ranges, node: Node) -> None:
    """Handle an operator that returns its input unchanged."""
    ranges.same(node)
    ranges.copied(node)


def added(ranges: Ranges, node: Node) -> None:
    one, other = map(ranges.number, node.inputs)
    if other is not None:
        ranges.moved(node.inputs[0], node.outputs[0], 1, other)
    elif one is not None:
        ranges.moved(node.inputs[1], node.outputs[0], 1, one)


def subtracted(ranges: Ranges, node: Node) -> None:
    one, other = map(ranges.number, node.inputs)
    if other is not None:
        ranges.moved(node.inputs[0], node.outputs[0], 1, -other)
    elif one is not None:
        ranges.moved(node.inputs[1], node.outputs[0], -1, one)


def multiplied(ranges: Ranges, node: Node) -> None:
    one, other = map(ranges.number, node.inputs)
    if other is not None:
        ranges.moved(node.inputs[0], node.outputs[0], other)
    elif one is not None:
        ranges.moved(node.inputs[1], node.outputs[0], one)


def negated(ranges: Ranges, node: Node) -> None:
    ranges.moved(node.inputs[0], node.outputs[0], -1)


def selected(ranges: Ranges, node: Node) -> None:
    """Handle an operator that selects from its second or third input by its first one."""
    ranges.either(node.inputs[1:3], node.outputs[0])


def divided(ranges: Ranges, node: Node) -> None:
    """Handle a division. The remainder of integers is ignored."""
    other = ranges.number(node.inputs[1])
    if other:
        ranges.moved(node.inputs[0], node.outputs[0], 1 / other)


def cut_below(ranges: Ranges, node: Node) -> None:
    """Handle a maximum of two tensors."""
    _cut(ranges, node, upper=False)


def cut_above(ranges: Ranges, node: Node) -> None:
    """Handle a minimum of two tensors."""
    _cut(ranges, node, upper=True)


def _cut(ranges: Ranges, node: Node, upper: bool) -> None:
    if len(node.inputs) == 2:
        one, other = node.inputs
        ranges.cut(one, node.outputs[0], ranges.number(other), upper)
        ranges.cut(other, node.outputs[0], ranges.number(one), upper)


def one_hot(ranges: Ranges, node: Node) -> None:
    """Handle a one-hot encoding, with the number of classes as second input."""
    depth = ranges.number(node.inputs[1])
    if depth is not None:
        ranges.between(node.inputs[0], 0, depth - 1)


def by_operator(rules: Mapping[str, Rule]) -> Rules:
    """Return the rules of a format with one domain. A key may contain several operators, separated by spaces."""
    return {("", operator): rule for names, rule in rules.items() for operator in names.split()}


def ranges_of(
    model: Model,
    rules: Rules,
    inputs: Mapping[str, str],
    constants: Mapping[str, Tensor],
    begun: Callable[..., Ranges] = Ranges,
) -> Dict[str, InputRange]:
    """Return the ranges that were found, by input.

    inputs     tensor → name of the input
    constants  tensor → constant, in addition to those in nodes
    begun      creates the argument of the rules, for a format whose rules need more state

    Of the graphs inside the graph, only functions that it calls are followed, and those that a rule passes to `graph`.
    """
    ranges = begun(rules, model.functions, constants, {tensor: _Line(name) for tensor, name in inputs.items()})
    ranges.nodes(model.graph.nodes)
    return {name: each for name, each in ranges.found.items() if -_NO_LIMIT < each.low <= each.high < _NO_LIMIT}
