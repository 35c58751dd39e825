"""Which numbers an input may hold, as far as the operators say so that take it.

An input is followed through what only moves its numbers, and through sums and products with constants, up to the table
whose rows they pick or the limits at which they are cut off.
"""

import itertools
from typing import Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple

from runtimes.contract import InputRange
from runtimes.dataflow.graph import Function, Graph, Model, Node, Tensor

# How exporters write that there is no limit: the largest number of 32 bits, or of floats.
_NO_LIMIT = 2e9
_MAX_DEPTH = 20  # of calls in calls
_MAX_NODES = 400000  # over all calls and branches: seconds


class _Line(NamedTuple):
    """A tensor that holds scale * number + shift for each number of an input."""

    input: str
    scale: float = 1.0
    shift: float = 0.0


class Ranges:
    """What is known of one graph so far, for the rules of a format's operators. `found` is what came of it, by input.

    constants, inputs: the graph's own, and the tensors by which others are known
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
            rule, function = (each.get((node.domain, node.operator)) for each in (self._rules, self._functions))
            if rule is not None:
                rule(self, node)
            elif function is not None:
                self.call(node, node.domain, node.operator)

    def call(self, node: Node, domain: str, name: str) -> None:
        """The node's inputs are those of this function, and its outputs what that gives."""
        function = self._functions.get((domain, name))
        if function is not None:
            inside = self._inside(node.inputs, function.inputs, (), function.nodes)
            self._taken(inside, node.outputs, function.outputs)

    def graph(self, graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """A graph within this one, whose inputs are these, gives these outputs; "" for one that is not followed."""
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
        """The size of a constant along an axis; None where it is no constant."""
        dims = self._constants[name].dims if name in self._constants else ()
        return dims[axis] if -len(dims) <= axis < len(dims) else None

    def number(self, name: str) -> Optional[float]:
        """A constant's number, where all of its elements are one."""
        tensor = self._constants.get(name)
        distinct = set(tensor.contents or ()) if tensor is not None else ()
        only = next(iter(distinct)) if len(distinct) == 1 else None
        return float(only) if isinstance(only, (bool, int, float)) else None

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

    def either(self, names: Sequence[str], output: str) -> None:
        """The output holds numbers of these. Where all are made of one input, the lower one of two is the input's own:

        to an id below zero, the size of the table is added.
        """
        lines = [self._lines[name] for name in names if name in self._lines]
        if lines and len({(line.input, line.scale) for line in lines}) == 1:
            self._lines[output] = min(lines, key=lambda line: line.shift)

    def cut(self, name: str, output: str, limit: Optional[float], upper: bool) -> None:
        """The output is the tensor, cut off at one end. Where it is cut off at the other end too, between() holds.

        Cut off at one end alone, it may be a table that says where the other one is.
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
        """The tensor's numbers pick among so many: rows of a table, say. None or 0: it is not known among how many."""
        if size:
            self.between(name, 0, size - 1, rows=True)

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
Rules = Mapping[Tuple[str, str], Rule]  # by domain and operator


def constant(ranges: Ranges, node: Node) -> None:
    """A node that holds a constant"""
    value = node.attributes.get("value")
    if isinstance(value, Tensor):
        ranges.constant(node.outputs[0], value)


def passed(ranges: Ranges, node: Node) -> None:
    """What gives what it is given, in the same shape"""
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
    """The second or the third input, as the first one says"""
    ranges.either(node.inputs[1:3], node.outputs[0])


def divided(ranges: Ranges, node: Node) -> None:
    """Of whole numbers the remainder is left out of account."""
    other = ranges.number(node.inputs[1])
    if other:
        ranges.moved(node.inputs[0], node.outputs[0], 1 / other)


def cut_below(ranges: Ranges, node: Node) -> None:
    """The larger of two"""
    _cut(ranges, node, upper=False)


def cut_above(ranges: Ranges, node: Node) -> None:
    """The smaller of two"""
    _cut(ranges, node, upper=True)


def _cut(ranges: Ranges, node: Node, upper: bool) -> None:
    if len(node.inputs) == 2:
        one, other = node.inputs
        ranges.cut(one, node.outputs[0], ranges.number(other), upper)
        ranges.cut(other, node.outputs[0], ranges.number(one), upper)


def one_hot(ranges: Ranges, node: Node) -> None:
    """What the second input has as its number of classes; other numbers are none of them"""
    depth = ranges.number(node.inputs[1])
    if depth is not None:
        ranges.between(node.inputs[0], 0, depth - 1)


def by_operator(rules: Mapping[str, Rule]) -> Rules:
    """Of a format with one domain; each key may hold several operators, with spaces between."""
    return {("", operator): rule for names, rule in rules.items() for operator in names.split()}


def ranges_of(
    model: Model,
    rules: Rules,
    inputs: Mapping[str, str],
    constants: Mapping[str, Tensor],
    begun: Callable[..., Ranges] = Ranges,
) -> Dict[str, InputRange]:
    """Input → range, of those for which one was found.

    inputs     tensor → the input that it is
    constants  tensor → constant: beside those in nodes
    begun      makes what the rules get, for a format whose rules keep more

    Graphs within the graph are not looked at, but for functions that it calls, and where a rule gives them inputs.
    """
    ranges = begun(rules, model.functions, constants, {tensor: _Line(name) for tensor, name in inputs.items()})
    ranges.nodes(model.graph.nodes)
    return {name: each for name, each in ranges.found.items() if -_NO_LIMIT < each.low <= each.high < _NO_LIMIT}
