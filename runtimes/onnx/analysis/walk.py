"""An ONNX graph walked in its order, each operator by the rule that `ops` has for it."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

from runtimes.contract import BatchAnalysis, Signature
from runtimes.dataflow.sizes import MOST_DIMENSIONS, ROWS, Product, fresh, has_rows
from runtimes.dataflow.values import Value, called, constant, join, mixed, repeats, rows, unsure
from runtimes.dataflow.verdict import analysis
from runtimes.onnx.analysis.file import Function, Graph, Model, Node, Reference, Tensor

_MOST_NODES = 400000  # over all branches, bodies and calls: seconds
_OLDEST = 7  # opset; before it, broadcasting was another
_MOST_DEPTH = 40
_MOST_ROUNDS = 4  # of a loop's body, until what it carries stays as it is
_ERRORS = (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, ZeroDivisionError)


# What gives an answer for any number of rows, though one that depends on it.
_NEVER_FAIL = (
    "Reduce",
    "Arg",
    "Cum",
    "Softmax",
    "LogSoftmax",
    "NonZero",
    "Unique",
    "Dynamic",
    "Slice",
    "Gather",
    "Pad",
)


class TooLarge(Exception):
    """More than is walked in the time that reading may take."""


class Scope:
    """The tensors of one graph, by name; those of the graphs around it may be read too."""

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
        return unsure("tensor '%s' comes from nowhere" % name[:60])


class Call:
    """One operator as its rule sees it. An input that is left out is None."""

    def __init__(self, walk: "Walk", node: Node, scope: Scope) -> None:
        self.walk, self.node, self.scope = walk, node, scope
        self.at = called(node.operator, node.name or (node.outputs[0] if node.outputs else ""))
        self.inputs = [scope[name] if name else None for name in node.inputs]  # type: List[Optional[Value]]
        self.version = walk.versions.get(node.domain, 1)

    def __getitem__(self, place: int) -> Value:
        value = self.get(place)
        if value is None:
            raise ValueError("input %d is missing" % place)
        return value

    def get(self, place: int) -> Optional[Value]:
        return self.inputs[place] if place < len(self.inputs) else None

    @property
    def present(self) -> List[Value]:
        return [value for value in self.inputs if value is not None]

    def attribute(self, name: str, otherwise: Any = None) -> Any:
        return self.node.attributes.get(name, otherwise)

    def list_of(self, name: str, place: int) -> Any:
        """An attribute's or a constant input's numbers; None: neither is there; a Value: why it is not known."""
        value = self.get(place)
        if value is None:
            return self.attribute(name)
        if value.tainted:
            return value
        if value.has_rows or value.contents is None or any(element is None for element in value.contents):
            return unsure("%s has %s that are not followed" % (self.at, name))
        return list(value.contents)


class Walk:
    """Once over a model. `writes` is what was found to change state."""

    def __init__(self, model: Model) -> None:
        from runtimes.onnx.analysis.ops import RULES

        self._rules = RULES
        self._functions = model.functions
        self.versions = dict(model.versions)
        self.versions[""] = self.versions.get("", self.versions.get("ai.onnx", 1))
        self.writes = []  # type: List[str]
        self.tainted = ""  # the first reason of what may fail, whether or not an output depends on it
        self._left, self._depth = _MOST_NODES, 0

    def graph(self, graph: Graph, outer: Optional[Scope], given: Dict[str, Value]) -> List[Value]:
        """The outputs of a graph whose inputs are these."""
        scope = Scope(outer)
        self._left -= len(graph.constants)
        for tensor in graph.constants:
            scope[tensor.name] = of_tensor(tensor)
        for name, value in given.items():
            scope[name] = value
        self.nodes(graph.nodes, scope)
        return [scope[name] for name in graph.outputs]

    def nodes(self, nodes: Sequence[Node], scope: Scope) -> None:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise TooLarge
        for node in nodes:
            self._left -= 1
            if self._left < 0:
                raise TooLarge
            results = self._results(node, scope)
            for name, value in zip(node.outputs, results):
                scope[name] = value
                if value.tainted and not self.tainted and _may_fail(node, scope):
                    self.tainted = (value.mixes + value.unknown)[0]
            for name in node.outputs[len(results) :]:
                scope[name] = unsure("%s has more outputs than are followed" % called(node.operator, node.name))
        self._depth -= 1

    def _results(self, node: Node, scope: Scope) -> List[Value]:
        call = Call(self, node, scope)
        rule = self._rules.get((node.domain, node.operator))
        function = self._functions.get((node.domain, node.operator))
        if function is not None and (rule is None or node.domain):
            return self._called(function, call)
        if not node.domain and self.versions[""] < _OLDEST and node.operator not in ("Cast", "Identity"):
            return [unsure("%s is of an opset before %d" % (call.at, _OLDEST), call.present)] * len(node.outputs)
        if rule is None:
            return [unsure("%s is not known" % call.at, call.present)] * len(node.outputs)
        try:
            results = rule(call)
        except _ERRORS:
            return [unsure("%s is not followed" % call.at, call.present)] * len(node.outputs)
        return list(results) if isinstance(results, list) else [results]

    def _called(self, function: Function, call: Call) -> List[Value]:
        scope = Scope()
        for name, value in zip(function.inputs, call.inputs):
            if value is not None:
                scope[name] = value
        before = self.versions
        self.versions = dict(before, **function.versions)
        self.nodes([_bound(node, call.node.attributes, 0) for node in function.nodes], scope)
        self.versions = before
        return [scope[name] for name in function.outputs]


def _may_fail(node: Node, scope: Scope) -> bool:
    """Whether an operator that could not be followed may refuse another number of rows."""
    given = [scope[name] for name in node.inputs if name]
    moving = sum(value.has_rows or value.tainted for value in given)
    return moving > 1 or not node.operator.startswith(_NEVER_FAIL)


def _bound(node: Node, given: Dict[str, Any], depth: int) -> Node:
    """A function's node with the caller's attributes in it."""
    attributes = {}
    for name, value in node.attributes.items():
        if isinstance(value, Reference):
            if value.name not in given:
                continue
            value = given[value.name]
        elif isinstance(value, Graph) and depth < _MOST_DEPTH:
            value = value._replace(nodes=[_bound(inner, given, depth + 1) for inner in value.nodes])
        attributes[name] = value
    return node._replace(attributes=attributes)


def of_tensor(tensor: Tensor) -> Value:
    """Of sparse ones and those with more dimensions than are followed, nothing is known but that they are constants."""
    return constant(tensor.dims if len(tensor.dims) <= MOST_DIMENSIONS else None, tensor.contents)


def analyse(model: Model, signature: Signature) -> BatchAnalysis:
    """What becomes of the rows that lie along the first dimension of the signature's inputs."""
    walk = Walk(model)
    constants = {tensor.name for tensor in model.graph.constants}
    given, unknown = {}, []  # type: Dict[str, Value], List[str]
    wanted = {spec.name for spec in signature.inputs}
    first = {dims[0] for name, dims in model.graph.inputs if dims and name in wanted and isinstance(dims[0], str)}
    for name, dims in model.graph.inputs:
        if name in constants and name not in wanted:
            continue  # old files list their weights as inputs
        value, why = _input(called("input", name), dims, first)
        given[name] = value
        if why:
            unknown.append(why)
    if not given:
        unknown.append("the signature has no inputs")
    try:
        results = dict(zip(model.graph.outputs, walk.graph(model.graph, None, given)))
    except (TooLarge, RecursionError):
        return BatchAnalysis(unknown=("the graph is larger than what is followed",))
    served = [spec.name for spec in signature.outputs if spec.name in results]
    found = analysis({name: results[name] for name in served}, list(dict.fromkeys(walk.writes)), unknown)
    if walk.tainted and not (found.mixes or found.unknown):
        # What no output needs runs all the same, and may fail where a batch has another number of rows.
        return found._replace(unknown=("%s, though no output needs it" % walk.tainted,))
    return found


def _input(at: str, dims: Optional[List[Any]], batch: Any) -> Tuple[Value, str]:
    why = ""
    if dims is None or len(dims) > MOST_DIMENSIONS:
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


def either(call: Call) -> Any:
    """If"""
    condition = call[0]
    branches = [call.attribute("then_branch"), call.attribute("else_branch")]
    if condition.mixes or condition.has_rows:
        return [mixed("%s depends on values of the batch" % call.at, [condition])] * len(call.node.outputs)
    if condition.unknown or condition.counts_rows:
        return [unsure("%s depends on what is not followed" % call.at, [condition])] * len(call.node.outputs)
    if condition.contents and isinstance(condition.contents[0], (bool, int)):
        return call.walk.graph(branches[0 if condition.contents[0] else 1], call.scope, {})
    results = [call.walk.graph(branch, call.scope, {}) for branch in branches]
    return [join(call.at, one, two) for one, two in zip(*results)]


def loop(call: Call) -> Any:
    """Loop"""
    body, count, condition = call.attribute("body"), call.get(0), call.get(1)
    carried = [value if value is not None else unsure("%s lacks a value" % call.at) for value in call.inputs[2:]]
    bounds = [value for value in (count, condition) if value is not None]
    outputs = len(call.node.outputs)
    for bound in bounds:
        if bound.mixes or bound.has_rows:
            return [mixed("%s runs as often as values of the batch say" % call.at, [bound])] * outputs
        if bound.unknown or repeats(bound):
            return [unsure("%s runs as often as the number of rows says" % call.at, [bound])] * outputs
    carried = [value._replace(contents=None) if not value.counts_rows else value for value in carried]
    for turn in range(_MOST_ROUNDS):
        names = [name for name, _ in body.inputs]
        given = dict(zip(names, [constant([]), constant([])] + carried))
        results = call.walk.graph(body, call.scope, given)
        goes_on, after, scanned = results[0], results[1 : 1 + len(carried)], results[1 + len(carried) :]
        if goes_on.mixes or goes_on.has_rows:
            return [mixed("%s runs until values of the batch say" % call.at, [goes_on])] * outputs
        if goes_on.unknown or repeats(goes_on):
            return [unsure("%s runs until what is not followed" % call.at, [goes_on])] * outputs
        joined = [join(call.at, old, new._replace(contents=None)) for old, new in zip(carried, after)]
        if settled(carried, joined, turn):
            return joined + [stacked(value) for value in scanned]
        carried = joined
    return [unsure("%s is not followed" % call.at, carried)] * outputs


def settled(carried: Sequence[Value], joined: Sequence[Value], turn: int) -> bool:
    """Whether another turn finds nothing new. A size that changed in a turn before is any size by now."""
    same = [(value.axis, value.before, value.after, value.mixes, value.unknown) for value in carried]
    if same != [(value.axis, value.before, value.after, value.mixes, value.unknown) for value in joined]:
        return False
    for old, new in zip(carried, joined):
        if old.dims is None or new.dims is None:
            if old.dims != new.dims:
                return False
            continue
        for size, other in zip(old.dims, new.dims):
            open_size = turn > 0 and isinstance(size, Product) and isinstance(other, Product)
            if size != other and (not open_size or has_rows(size) or has_rows(other)):
                return False
    return True


def stacked(value: Value, axis: int = 0) -> Value:
    """The results of all rounds beside each other, along a dimension of their own."""
    if value.tainted or value.dims is None:
        return value._replace(dims=None, contents=None) if not repeats(value) else unsure("rounds are counted", [value])
    if value.counts_rows:
        return unsure("the number of rows is collected in a loop")
    axis = axis + len(value.dims) + 1 if axis < 0 else axis
    dims = value.dims[:axis] + (fresh(),) + value.dims[axis:]
    place = None if value.axis is None else value.axis + (value.axis >= axis)
    return value._replace(dims=dims, axis=place, contents=None)


def scan(call: Call) -> Any:
    """Scan, of opset 9 and later"""
    body, count = call.attribute("body"), call.attribute("num_scan_inputs")
    outputs = len(call.node.outputs)
    if call.version < 9:
        return [unsure("%s is of an old form" % call.at, call.present)] * outputs
    states, scanned = call.inputs[: len(call.inputs) - count], call.inputs[len(call.inputs) - count :]
    axes = call.attribute("scan_input_axes") or [0] * count
    directions = call.attribute("scan_output_axes") or [0] * outputs
    slices = []
    for value, axis in zip(scanned, axes):
        if value is None or value.dims is None or value.tainted or repeats(value) and not value.has_rows:
            return [unsure("%s is not followed" % call.at, call.present)] * outputs
        axis = axis + len(value.dims) if axis < 0 else axis
        if value.axis == axis:
            reason = "%s runs from row to row" % call.at
            return [(mixed if states else unsure)(reason, call.present)] * outputs
        place = None if value.axis is None else value.axis - (axis < value.axis)
        slices.append(value._replace(dims=value.dims[:axis] + value.dims[axis + 1 :], axis=place, contents=None))
    carried = [value._replace(contents=None) for value in states if value is not None]
    for turn in range(_MOST_ROUNDS):
        results = call.walk.graph(body, call.scope, dict(zip([name for name, _ in body.inputs], carried + slices)))
        joined = [join(call.at, old, new._replace(contents=None)) for old, new in zip(carried, results)]
        if settled(carried, joined, turn):
            rest = results[len(carried) :]
            return joined + [stacked(value, axis) for value, axis in zip(rest, directions)]
        carried = joined
    return [unsure("%s is not followed" % call.at, carried)] * outputs
