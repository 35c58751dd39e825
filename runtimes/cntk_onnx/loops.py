"""Loops through PastValue or FutureValue, as ONNX's Scan: its body is what they compute in one step.

What a loop reads of a sequence is given to it step by step; the rest it sees from where it stands.
What is delayed by n steps is a state of n tensors, each handing on to the next.
"""

from typing import Callable, Dict, List, NamedTuple, Set, Tuple

from onnx import helper

from runtimes.onnx.graph import TYPES, Graph

from .context import TranslationContext
from .functions import Function, owner
from .ops.sequences import initial
from .protobuf import broken
from .values import Value

Translate = Callable[[Function, Dict[str, Value], Graph], Dict[str, Value]]
_DELAYS = ("PastValue", "FutureValue")
_MAX_STEPS = 64


class Loop(NamedTuple):
    """wanted: uids that others read; shapes: uid → shape, of variables of which the file tells it."""

    functions: List[Function]
    wanted: Set[str]
    shapes: Dict[str, Tuple[int, ...]]

    @property
    def delays(self) -> List[Function]:
        return [each for each in self.functions if each.op in _DELAYS]

    @property
    def read(self) -> List[str]:
        """What it reads of others."""
        inside = {each.uid for each in self.functions}
        return list(dict.fromkeys(u for each in self.functions for u in each.inputs if owner(u)[0] not in inside))


class _Delay(NamedTuple):
    """states: the newest first; shape: of each."""

    function: Function
    steps: int
    shape: Tuple[int, ...]
    states: List[str]


def translate_loop(loop: Loop, values: Dict[str, Value], graph: Graph, translate: Translate) -> Dict[str, Value]:
    """What it gives to others, by uid. Raises LoadError."""
    some = _check(loop)
    for uid in loop.read:
        if uid not in values:
            raise broken("'%s' has no output %d" % owner(uid))
    sequences = [uid for uid in loop.read if values[uid].lead == 2]
    if not sequences:
        some.refuse("it is in a loop that reads no sequence, which is not covered")
    if len({values[uid].axes for uid in sequences}) > 1:
        some.refuse("it is in a loop over several sequences, which is not covered")
    axes, like = values[sequences[0]].axes, values[sequences[0]]
    dtype = like.dtype
    body = Graph(outer=graph)
    inner = {uid: values[uid] for uid in loop.read}
    steps = []
    for uid in sequences:
        value = values[uid]
        name = body.unique(value.name + "_step")
        inner[uid] = value._replace(name=name, axes=axes[:1], array=None)
        steps.append(_info(name, inner[uid]))
    delays = [_delay(each, loop, values, body) for each in loop.delays]
    for delay in delays:
        inner["%s_Output_0" % delay.function.uid] = Value(delay.states[-1], delay.shape, axes[:1], dtype)
    for function in _in_order(loop):
        inner.update(translate(function, inner, body))
    row = Value(delays[0].states[0], delays[0].shape, axes[:1], dtype)
    handed, initials = _states(delays, inner, values, body, graph, like, row)
    wanted = sorted(loop.wanted & set(inner))
    given = []
    for uid in wanted:
        context = TranslationContext(some, [_rows(some, inner[uid], row, body)], body)
        given.append(context.emit("Identity", context.name(context.inputs[0])))
    inputs = [_info(name, Value(name, each.shape, axes[:1], dtype)) for each in delays for name in each.states]
    shapes = [each.shape for each in delays for _ in each.states]
    outputs = [_info(name, Value(name, shape, axes[:1], dtype)) for name, shape in zip(handed, shapes)]
    outputs += [_info(name, inner[uid]._replace(axes=axes[:1])) for name, uid in zip(given, wanted)]
    called = some.block or some.op
    scanned = helper.make_graph(body.nodes, "%s_step" % called, [*inputs, *steps], outputs)
    found = graph.emit(
        "Scan",
        [*initials, *(values[uid].name for uid in sequences)],
        some.name or some.uid,
        outputs=len(outputs),
        body=scanned,
        num_scan_inputs=len(sequences),
        scan_input_axes=[1] * len(sequences),
        scan_output_axes=[1] * len(given),
        scan_input_directions=[int(some.op == "FutureValue")] * len(sequences),
        scan_output_directions=[int(some.op == "FutureValue")] * len(given),
    )
    names = found if isinstance(found, list) else [found]
    return {
        uid: inner[uid]._replace(name=name, axes=axes, array=None, uniform=False)
        for uid, name in zip(wanted, names[len(handed) :])
    }


def _check(loop: Loop) -> Function:
    """One of its delays, for sentences."""
    if not loop.delays:
        loop.functions[0].refuse("it reads its own result without a delay")
    if len({each.op for each in loop.delays}) > 1:
        loop.delays[0].refuse("it is in a loop that goes both forwards and backwards, which is not covered")
    inside = {each.uid for each in loop.functions}
    for each in loop.delays:
        if len(each.inputs) != 2 or owner(each.inputs[1])[0] in inside:
            each.refuse("what stands before its sequence is computed in its own loop, which is not covered")
    return loop.delays[0]


def _delay(function: Function, loop: Loop, values: Dict[str, Value], body: Graph) -> _Delay:
    steps = function.attributes.get("offset")
    if not isinstance(steps, int) or not 0 < steps <= _MAX_STEPS:
        function.refuse("it delays by another number of steps than 1 to %d" % _MAX_STEPS)
    output = "%s_Output_0" % function.uid
    shape = loop.shapes.get(output, loop.shapes.get(function.inputs[0], values[function.inputs[1]].shape))
    if any(size < 1 for size in shape):
        function.refuse("its size is only told by a request, which is not covered in a loop")
    called = function.name or function.uid
    return _Delay(function, steps, shape, [body.unique("%s_state" % called) for _ in range(steps)])


def _in_order(loop: Loop) -> List[Function]:
    """Without the delays, each after what it reads."""
    rest = {each.uid: each for each in loop.functions if each.op not in _DELAYS}
    reads = {uid: {owner(u)[0] for u in each.inputs} & set(rest) for uid, each in rest.items()}
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
    """What each state becomes after a step, and what it is at first."""
    handed, initials = [], []
    for delay in delays:
        new = inner[delay.function.inputs[0]]
        if new.shape != delay.shape or (new.array is None and new.dtype != row.dtype):
            delay.function.refuse("its size in the loop cannot be told: %s or %s" % (delay.shape, new.shape))
        inside = TranslationContext(delay.function, [_rows(delay.function, new, row, body)], body)
        chain = [inside.name(inside.inputs[0]), *delay.states[:-1]]
        handed += [inside.emit("Identity", name) for name in chain]
        before = values[delay.function.inputs[1]]
        outside = TranslationContext(delay.function, [before, like], graph)
        initials += [initial(outside, outside.inputs[0], like, delay.shape)] * delay.steps
    return handed, initials


def _rows(function: Function, value: Value, row: Value, body: Graph) -> Value:
    """With a batch axis, also where it is the same for all rows."""
    if value.axes:
        return value
    context = TranslationContext(function, [value, row], body)
    return context.value(initial(context, context.inputs[0], row, value.shape), value.shape, row.axes)


def _info(name: str, value: Value) -> object:
    sizes = [size if size >= 0 else None for size in value.shape]
    return helper.make_tensor_value_info(name, TYPES[value.dtype], [*("N" for _ in value.axes), *sizes])
