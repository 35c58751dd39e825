"""Loops through PastValue or FutureValue, translated to ONNX's Scan, whose body computes one step.

The sequences that a loop reads are scan inputs; the body reads all other values from the outer graph. A delay of n
steps becomes n state variables, each of which passes its value to the next one.
"""

from typing import Callable, Dict, List, NamedTuple, Set, Tuple

from onnx import helper

from runtimes.onnx.builder import TYPES, Graph

from .context import TranslationContext
from .functions import Function, producer
from .ops.sequences import initial
from .protobuf import broken
from .values import Value

Translate = Callable[[Function, Dict[str, Value], Graph], Dict[str, Value]]
_DELAYS = ("PastValue", "FutureValue")
# Each step of a delay is a state variable of the Scan.
_MAX_STEPS = 64


class Loop(NamedTuple):
    """
    functions  of the loop
    outputs    uids of the outputs that functions outside the loop read
    shapes     uid → shape, for the outputs whose shape the file contains
    """

    functions: List[Function]
    outputs: Set[str]
    shapes: Dict[str, Tuple[int, ...]]

    @property
    def delays(self) -> List[Function]:
        return [each for each in self.functions if each.op in _DELAYS]

    @property
    def inputs(self) -> List[str]:
        """The uids that it reads from outside."""
        inside = {each.uid for each in self.functions}
        return list(dict.fromkeys(u for each in self.functions for u in each.inputs if producer(u)[0] not in inside))


class _Delay(NamedTuple):
    """
    shape   of each state
    states  names of the state variables, the newest first
    """

    function: Function
    steps: int
    shape: Tuple[int, ...]
    states: List[str]


def translate_loop(loop: Loop, values: Dict[str, Value], graph: Graph, translate: Translate) -> Dict[str, Value]:
    """Translate a loop and return its outputs by uid. Raises LoadError."""
    delay = _checked_delay(loop)
    for uid in loop.inputs:
        if uid not in values:
            raise broken("'%s' has no output %d" % producer(uid))
    sequences = [uid for uid in loop.inputs if values[uid].lead == 2]
    if not sequences:
        delay.refuse("it is in a loop that reads no sequence, which is not covered")
    if len({values[uid].axes for uid in sequences}) > 1:
        delay.refuse("it is in a loop over sequences with different axes, which is not covered")
    axes, like = values[sequences[0]].axes, values[sequences[0]]
    dtype = like.dtype
    body = Graph(outer=graph)
    inner = {uid: values[uid] for uid in loop.inputs}
    steps = []
    for uid in sequences:
        value = values[uid]
        name = body.unique(value.name + "_step")
        inner[uid] = value._replace(name=name, axes=axes[:1], array=None)
        steps.append(_info(name, inner[uid]))
    delays = [_delay(each, loop, values, body) for each in loop.delays]
    for each in delays:
        inner["%s_Output_0" % each.function.uid] = Value(each.states[-1], each.shape, axes[:1], dtype)
    for function in _topological_order(loop):
        inner.update(translate(function, inner, body))
    row = Value(delays[0].states[0], delays[0].shape, axes[:1], dtype)
    next_states, initial_states = _states(delays, inner, values, body, graph, like, row)
    result_uids = sorted(loop.outputs & set(inner))
    results = []
    for uid in result_uids:
        context = TranslationContext(delay, [_with_batch_axis(delay, inner[uid], row, body)], body)
        results.append(context.emit("Identity", context.tensor(context.inputs[0])))
    inputs = [_info(name, Value(name, each.shape, axes[:1], dtype)) for each in delays for name in each.states]
    shapes = [each.shape for each in delays for _ in each.states]
    outputs = [_info(name, Value(name, shape, axes[:1], dtype)) for name, shape in zip(next_states, shapes)]
    outputs += [_info(name, inner[uid]._replace(axes=axes[:1])) for name, uid in zip(results, result_uids)]
    body_graph = helper.make_graph(body.nodes, "%s_step" % (delay.block or delay.op), [*inputs, *steps], outputs)
    found = graph.emit(
        "Scan",
        [*initial_states, *(values[uid].name for uid in sequences)],
        delay.name or delay.uid,
        outputs=len(outputs),
        body=body_graph,
        num_scan_inputs=len(sequences),
        scan_input_axes=[1] * len(sequences),
        scan_output_axes=[1] * len(results),
        scan_input_directions=[int(delay.op == "FutureValue")] * len(sequences),
        scan_output_directions=[int(delay.op == "FutureValue")] * len(results),
    )
    names = found if isinstance(found, list) else [found]
    return {
        uid: inner[uid]._replace(name=name, axes=axes, array=None, uniform=False)
        for uid, name in zip(result_uids, names[len(next_states) :])
    }


def _checked_delay(loop: Loop) -> Function:
    """Check the loop's delays and return the first, which error messages about the loop name. Raises LoadError."""
    if not loop.delays:
        loop.functions[0].refuse("it reads its own result without a delay")
    if len({each.op for each in loop.delays}) > 1:
        loop.delays[0].refuse("it is in a loop that goes both forwards and backwards, which is not covered")
    inside = {each.uid for each in loop.functions}
    for each in loop.delays:
        if len(each.inputs) != 2 or producer(each.inputs[1])[0] in inside:
            each.refuse("its initial state is computed in its own loop, which is not covered")
    return loop.delays[0]


def _delay(function: Function, loop: Loop, values: Dict[str, Value], body: Graph) -> _Delay:
    steps = function.attributes.get("offset")
    if not isinstance(steps, int) or not 0 < steps <= _MAX_STEPS:
        function.refuse("it must delay by 1 to %d steps" % _MAX_STEPS)
    output = "%s_Output_0" % function.uid
    shape = loop.shapes.get(output, loop.shapes.get(function.inputs[0], values[function.inputs[1]].shape))
    if any(size < 1 for size in shape):
        function.refuse("its size is dynamic, which is not covered in a loop")
    name = function.name or function.uid
    return _Delay(function, steps, shape, [body.unique("%s_state" % name) for _ in range(steps)])


def _topological_order(loop: Loop) -> List[Function]:
    """Sort the loop's functions except its delays, which read the previous step."""
    rest = {each.uid: each for each in loop.functions if each.op not in _DELAYS}
    reads = {uid: {producer(u)[0] for u in each.inputs} & set(rest) for uid, each in rest.items()}
    readers: Dict[str, List[str]] = {uid: [] for uid in rest}
    for uid, sources in reads.items():
        for source in sources:
            readers[source].append(uid)
    ready, order = [uid for uid, sources in reads.items() if not sources], []
    while ready:
        uid = ready.pop()
        order.append(rest[uid])
        for reader in readers[uid]:
            reads[reader].discard(uid)
            if not reads[reader]:
                ready.append(reader)
    if len(order) < len(rest):
        next(iter(rest.values())).refuse("it reads its own result without a delay")
    return order


def _states(
    delays: List[_Delay], inner: Dict[str, Value], values: Dict[str, Value], body: Graph, graph: Graph, like: Value,
    row: Value,
) -> Tuple[List[str], List[str]]:  # fmt: skip
    """Return the names of the states after a step, and of the initial states."""
    next_states, initial_states = [], []
    for delay in delays:
        new = inner[delay.function.inputs[0]]
        if new.shape != delay.shape or (new.array is None and new.dtype != row.dtype):
            delay.function.refuse("its size in the loop is ambiguous: %s or %s" % (delay.shape, new.shape))
        inside = TranslationContext(delay.function, [_with_batch_axis(delay.function, new, row, body)], body)
        chain = [inside.tensor(inside.inputs[0]), *delay.states[:-1]]
        next_states += [inside.emit("Identity", name) for name in chain]
        before = values[delay.function.inputs[1]]
        outside = TranslationContext(delay.function, [before, like], graph)
        initial_states += [initial(outside, outside.inputs[0], like, delay.shape)] * delay.steps
    return next_states, initial_states


def _with_batch_axis(function: Function, value: Value, row: Value, body: Graph) -> Value:
    """Return the value with a batch axis; one that is the same for all rows is repeated."""
    if value.axes:
        return value
    context = TranslationContext(function, [value, row], body)
    return context.value(initial(context, context.inputs[0], row, value.shape), value.shape, row.axes)


def _info(name: str, value: Value) -> object:
    sizes = [size if size >= 0 else None for size in value.shape]
    return helper.make_tensor_value_info(name, TYPES[value.dtype], [*("N" for _ in value.axes), *sizes])
