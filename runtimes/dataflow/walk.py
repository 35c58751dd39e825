"""Visits the operators of a graph in order, and applies the rule that the format has for each."""

from typing import Any, Callable, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

from runtimes.contract import BatchAnalysis
from runtimes.dataflow.graph import Function, Graph, Model, Node, Reference, Tensor
from runtimes.dataflow.sizes import MAX_DIMENSIONS, ROWS, fresh
from runtimes.dataflow.values import Value, constant, operator_label, propagate, repeats, rows, unsure
from runtimes.dataflow.verdict import summarize

# Nodes that are visited, counting each visit of a body or function. 100,000 nodes take about 3.5 s (docs/batching.md),
# so this bounds the delay of a load to some 15 s. The graph of a larger model is not followed.
_MAX_NODES = 400000
_TENSORS_PER_NODE = 16  # a node with more inputs and outputs counts as several
_MAX_DEPTH = 40  # of nested graphs and calls; Python's stack allows several times as many
_ERRORS = (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, ZeroDivisionError)


class TooLarge(Exception):
    """The graph is too large to be followed in reasonable time."""


class Scope:
    """The tensors of a graph by name, including those of the graphs that enclose it."""

    def __init__(self, outer: "Optional[Scope]" = None) -> None:
        self._outer = outer
        self._values = {}  # type: Dict[str, Value]

    def __setitem__(self, name: str, value: Value) -> None:
        if name:
            self._values[name] = value

    def __getitem__(self, name: str) -> Value:
        scope = self  # type: Optional[Scope]
        while scope is not None:
            if name in scope._values:
                return scope._values[name]
            scope = scope._outer
        return unsure("tensor '%s' is undefined" % name[:60])


class Call:
    """The argument of a rule: one operator with its inputs. An omitted input is None.

    at: the operator's label, with which reasons begin.
    """

    def __init__(self, walk: "Walk", node: Node, scope: Scope) -> None:
        self.walk, self.node, self.scope = walk, node, scope
        self.at = operator_label(node.operator, node.name or (node.outputs[0] if node.outputs else ""))
        self.inputs = [scope[name] if name else None for name in node.inputs]  # type: List[Optional[Value]]
        self.version = walk.versions.get(node.domain, 1)

    def __getitem__(self, index: int) -> Value:
        value = self.get(index)
        if value is None:
            raise ValueError("input %d is missing" % index)
        return value

    def get(self, index: int) -> Optional[Value]:
        return self.inputs[index] if index < len(self.inputs) else None

    @property
    def present(self) -> List[Value]:
        return [value for value in self.inputs if value is not None]

    def attribute(self, name: str, otherwise: Any = None) -> Any:
        return self.node.attributes.get(name, otherwise)

    def list_of(self, name: str, index: int) -> Any:
        """Return the numbers of a constant input or else an attribute; None if there is neither.

        Returns a tainted Value if the input's contents are unknown.
        """
        value = self.get(index)
        if value is None:
            return self.attribute(name)
        if value.tainted:
            return value
        if value.has_rows or value.contents is None or any(element is None for element in value.contents):
            return unsure("%s has %s that are not followed" % (self.at, name))
        return list(value.contents)

    def not_constant(self, others: Sequence[Optional[Value]]) -> Optional[Value]:
        """Return a tainted result if one of the operands is not a constant, and None if all are."""
        present = [other for other in others if other is not None]
        if any(other.tainted for other in present):
            return propagate(self.present)
        if any(other.has_rows or repeats(other) for other in present):
            return unsure("%s has parameters that depend on the inputs" % self.at)
        return None


Rule = Callable[[Call], Any]  # returns the value of the only output, or a list of values


class Operators(NamedTuple):
    """What is known about a format's operators.

    rules       by domain and operator
    never_fail  prefixes of the names of operators that accept any number of rows, even if their result depends on it
    oldest      the first version of the standard operators for which the rules are valid
    sized       the operators whose rules handle inputs that contain the number of rows, as shapes do, and tainted
                inputs. The results of all other operators are unknown then. None: all rules handle them
    """

    rules: Dict[Tuple[str, str], Rule]
    never_fail: Tuple[str, ...] = ()
    oldest: int = 0
    sized: Optional[FrozenSet[str]] = None

    def rule(self, *names: str, domain: str = "") -> Callable[[Rule], Rule]:
        """Register a function as the rule of these operators. A name may contain several, separated by spaces."""

        def register(function: Rule) -> Rule:
            for name in " ".join(names).split():
                self.rules[domain, name] = function
            return function

        return register


class Walk:
    """One pass over a model.

    writes: reasons why it changes state. tainted: the first reason of an operator that may fail for another number of
    rows, whether or not an output depends on it.
    """

    def __init__(self, model: Model, operators: Operators) -> None:
        self._operators = operators
        self._functions = model.functions
        self.versions = dict(model.versions)
        self.versions[""] = self.versions.get("", self.versions.get("ai.onnx", 1))
        self.writes = []  # type: List[str]
        self.tainted = ""
        self._left, self._depth = _MAX_NODES, 0

    def graph(self, graph: Graph, outer: Optional[Scope], inputs: Dict[str, Value]) -> List[Value]:
        """Return the outputs of a graph for these inputs."""
        scope = Scope(outer)
        self._left -= len(graph.constants)
        for tensor in graph.constants:
            scope[tensor.name] = of_tensor(tensor)
        for name, value in inputs.items():
            scope[name] = value
        self.nodes(graph.nodes, scope)
        return [scope[name] for name in graph.outputs]

    def nodes(self, nodes: Sequence[Node], scope: Scope) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise TooLarge
        for node in nodes:
            self._left -= 1 + (len(node.inputs) + len(node.outputs)) // _TENSORS_PER_NODE
            if self._left < 0:
                raise TooLarge
            results = self._results(node, scope)
            for name, value in zip(node.outputs, results):
                scope[name] = value
                if value.tainted and not self.tainted and self._may_fail(node, scope):
                    self.tainted = (value.mixes + value.unknown)[0]
            for name in node.outputs[len(results) :]:
                scope[name] = unsure("%s has more outputs than are followed" % operator_label(node.operator, node.name))
        self._depth -= 1

    def _results(self, node: Node, scope: Scope) -> List[Value]:
        call = Call(self, node, scope)
        rule = self._operators.rules.get((node.domain, node.operator))
        function = self._functions.get((node.domain, node.operator))
        if function is not None and (rule is None or node.domain):
            return self.function(function, call)
        oldest = self._operators.oldest
        if not node.domain and self.versions[""] < oldest and node.operator not in ("Cast", "Identity"):
            return [unsure("%s has an opset before %d" % (call.at, oldest), call.present)] * len(node.outputs)
        if rule is None:
            return [unsure("%s is not known" % call.at, call.present)] * len(node.outputs)
        try:
            results = rule(call)
        except _ERRORS:
            return [unsure("%s is not followed" % call.at, call.present)] * len(node.outputs)
        results = list(results) if isinstance(results, list) else [results]
        sized = self._operators.sized
        if sized is None or node.operator in sized:
            return results
        if any(value.tainted for value in call.present):
            return [value if value.tainted else propagate(call.present, value.dims) for value in results]
        if self._counts_rows(call):
            why = "%s computes with the number of rows" % call.at
            return [value if value.tainted else unsure(why, dims=value.dims) for value in results]
        return results

    def _counts_rows(self, call: Call) -> bool:
        return any(value.counts_rows for value in call.present)

    def function(self, function: Function, call: Call) -> List[Value]:
        """Return the outputs of a function for the inputs and attributes of the call."""
        return self._called(function, call.inputs, call.node.attributes)

    def apply(self, name: str, inputs: Sequence[Optional[Value]], attributes: Dict[str, Any]) -> List[Value]:
        """Return the outputs of a function that an attribute names. Raises KeyError if it does not exist."""
        return self._called(self._functions["", name], inputs, attributes)

    def _called(self, function: Function, inputs: Sequence[Optional[Value]], attributes: Dict[str, Any]) -> List[Value]:
        scope = Scope()
        for name, value in zip(function.inputs, inputs):
            if value is not None:
                scope[name] = value
        before = self.versions
        self.versions = dict(before, **function.versions)
        self.nodes([_bound(node, attributes, 0) for node in function.nodes], scope)
        self.versions = before
        return [scope[name] for name in function.outputs]

    def _may_fail(self, node: Node, scope: Scope) -> bool:
        """Return whether an operator that could not be followed may refuse another number of rows."""
        inputs = [scope[name] for name in node.inputs if name]
        moving = sum(value.has_rows or value.tainted for value in inputs)
        return moving > 1 or not node.operator.startswith(self._operators.never_fail)


def _bound(node: Node, arguments: Dict[str, Any], depth: int) -> Node:
    """Return a node of a function's body with the caller's attributes inserted."""
    attributes = {}
    for name, value in node.attributes.items():
        if isinstance(value, Reference):
            if value.name not in arguments:
                continue
            value = arguments[value.name]
        elif isinstance(value, Graph) and depth < _MAX_DEPTH:
            value = value._replace(nodes=[_bound(inner, arguments, depth + 1) for inner in value.nodes])
        attributes[name] = value
    return node._replace(attributes=attributes)


def of_tensor(tensor: Tensor) -> Value:
    """Return a constant. Its sizes are unknown if it has more dimensions than are followed."""
    return constant(tensor.dims if len(tensor.dims) <= MAX_DIMENSIONS else None, tensor.contents)


def batch_analysis(walk: Walk, outputs: Dict[str, Value], unknown: Sequence[str]) -> BatchAnalysis:
    """Return the analysis of a signature with these outputs. `unknown`: reasons that concern its inputs."""
    found = summarize(outputs, list(dict.fromkeys(walk.writes)), unknown)
    if walk.tainted and not (found.mixes or found.unknown):
        # An operator that no output depends on runs nevertheless, and may fail for another number of rows.
        return found._replace(unknown=("%s, though no output needs it" % walk.tainted,))
    return found


def batch_input(at: str, dims: Optional[List[Any]], batch: Any = ()) -> Tuple[Value, str]:
    """Return an input whose first dimension is the batch, and a reason why it cannot be; "" if it can.

    batch: the symbols that stand for the number of rows.
    """
    why = ""
    if dims is None or len(dims) > MAX_DIMENSIONS:
        why = "%s has no known rank" % at
    elif not dims:
        why = "%s is a scalar, which has no rows" % at
    elif isinstance(dims[0], int):
        why = "%s has a fixed first dimension" % at
    elif any(size in batch for size in dims[1:]):
        why = "%s has the number of rows as another dimension" % at
    if why:
        return unsure(why), why
    assert dims is not None
    return rows([ROWS] + [size if isinstance(size, int) else fresh() for size in dims[1:]]), ""
