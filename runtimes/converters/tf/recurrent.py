"""Unrolls the recurrent layers of an ONNX model, for tools that do not support them."""

from typing import Any, Dict, List, Optional

import numpy as np
import onnx_ir as ir

from runtimes.conversion import Refused

# Each step adds the operators of a cell, so a larger limit makes larger models; a smaller one refuses more of them.
_MAX_STEPS = 256
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DEFAULT_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
# The activations without parameters, which are ONNX operators of the same name.
_SUPPORTED_ACTIVATIONS = ("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")
_Values = Optional[List[Any]]


def unroll(model: Any) -> None:
    """Unroll every LSTM, GRU and RNN in place. Raises Refused if a number of steps is dynamic or too large."""
    for node in list(model.graph):
        if node.op_type in _GATES and not node.domain:
            _Layer(model.graph, node).replace()


class _Layer:
    def __init__(self, graph: Any, node: Any) -> None:
        self._graph = graph
        self._node = node
        inputs = [*node.inputs, *[None] * 8]
        self._x, self._weights, self._biases, self._lengths = inputs[0], inputs[1:3], inputs[3], inputs[4]
        self._states, self._peepholes = inputs[5:7], inputs[7]
        self._hidden = self._weights[1].shape[-1]
        self._direction = self._attribute("direction", "forward")
        self._steps = self._x.shape[0] if self._x.shape is not None else None
        default = _DEFAULT_ACTIVATIONS[node.op_type] * (2 if self._direction == "bidirectional" else 1)
        self._activations = list(self._attribute("activations", default))
        unsupported = (
            not set(self._activations) <= set(_SUPPORTED_ACTIVATIONS)
            or self._attribute("layout", 0)
            or self._attribute("clip", 0)
            or self._attribute("input_forget", 0)
        )
        if unsupported or not self._has_full_length():
            raise Refused("the model has a layer %s with settings that cannot be unrolled" % node.op_type)
        if not isinstance(self._steps, int) or self._steps > _MAX_STEPS:
            raise Refused(
                "the model has a layer %s over %s steps, and only up to %d can be unrolled"
                % (node.op_type, self._steps if isinstance(self._steps, int) else "any number of", _MAX_STEPS)
            )

    def _has_full_length(self) -> bool:
        """Whether every row has all steps. MXNet's converter writes their number as a constant."""
        lengths = self._lengths.const_value if self._lengths is not None else None
        return self._lengths is None or (lengths is not None and bool(np.all(lengths.numpy() == self._steps)))

    def replace(self) -> None:
        backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[self._direction]
        # For each direction: a list with [batch, hidden] per step, the last state, and the last cell.
        outputs = [self._run(index, reverse) for index, reverse in enumerate(backwards)]
        rows = []
        for step in range(self._steps):
            both = [self._op("Unsqueeze", each[0][step], self._ints([0])) for each in outputs]
            rows.append(self._op("Unsqueeze", self._join(both, 0), self._ints([0])))
        results = [self._join(rows, 0)]
        for part in (1, 2)[: len(self._node.outputs) - 1]:
            results.append(self._join([self._op("Unsqueeze", each[part], self._ints([0])) for each in outputs], 0))
        for old, new in zip(self._node.outputs, results):
            name = old.name
            new.shape, new.dtype = old.shape, old.dtype
            ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
            old.name, new.name = "%s_before" % name, name
        self._graph.remove(self._node, safe=True)

    def _run(self, direction: int, reverse: bool) -> List[Any]:
        w, r = [self._op("Transpose", self._select(each, direction), perm=[1, 0]) for each in self._weights]
        bias = None
        if self._biases is not None:  # one for the input, and one for the state
            bias = self._split(self._select(self._biases, direction), 2, 0, _GATES[self._node.op_type] * self._hidden)
        h, c = [None if state is None else self._select(state, direction) for state in self._states]
        cell = {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[self._node.op_type]
        count = len(_DEFAULT_ACTIVATIONS[self._node.op_type])
        act = self._activations[direction * count : (direction + 1) * count]
        peepholes = None if self._peepholes is None else self._split(self._select(self._peepholes, direction), 3, 0)
        outputs: Dict[int, Any] = {}
        for step in reversed(range(self._steps)) if reverse else range(self._steps):
            x = self._op("Gather", self._x, self._number(step), axis=0)
            h, c = cell(self._op("MatMul", x, w), h, c, r, bias, act, peepholes)
            outputs[step] = h
        return [[outputs[step] for step in range(self._steps)], h, c]

    def _rnn(self, x: Any, h: Any, c: Any, r: Any, bias: _Values, act: List[str], peepholes: _Values) -> Any:
        for part in bias or ():
            x = self._op("Add", x, part)
        return self._op(act[0], x if h is None else self._op("Add", x, self._op("MatMul", h, r))), None

    def _lstm(self, x: Any, h: Any, c: Any, r: Any, bias: _Values, act: List[str], peepholes: _Values) -> Any:
        """peepholes: of the input, output and forget gates. Only the output gate uses the new cell."""

        def gate(value: Any, index: int, cell: Any) -> Any:
            if peepholes is not None and cell is not None:
                value = self._op("Add", value, self._op("Mul", peepholes[index], cell))
            return self._op(act[0], value)

        gates = x if h is None else self._op("Add", x, self._op("MatMul", h, r))
        for part in bias or ():
            gates = self._op("Add", gates, part)
        i, o, f, g = self._split(gates, 4)
        fresh = self._op("Mul", gate(i, 0, c), self._op(act[1], g))
        c = fresh if c is None else self._op("Add", fresh, self._op("Mul", gate(f, 2, c), c))
        return self._op("Mul", gate(o, 1, c), self._op(act[2], c)), c

    def _gru(self, x: Any, h: Any, c: Any, r: Any, bias: _Values, act: List[str], peepholes: _Values) -> Any:
        if h is None:
            h = self._op("Mul", self._split(x, 1)[0], self._constant(np.float32(0)))
        if bias is not None:
            x = self._op("Add", x, bias[0])
        z, reset, new = self._split(x, 3)
        rz, rr, rn = self._split(r, 3, 1)
        bz, br, bn = self._split(bias[1], 3, 0) if bias is not None else [None] * 3

        def more(value: Any, state: Any, weight: Any, extra: Any) -> Any:
            value = self._op("Add", value, self._op("MatMul", state, weight))
            return value if extra is None else self._op("Add", value, extra)

        z, reset = self._op(act[0], more(z, h, rz, bz)), self._op(act[0], more(reset, h, rr, br))
        if self._attribute("linear_before_reset", 0):
            before = self._op("MatMul", h, rn)
            before = before if bn is None else self._op("Add", before, bn)
            new = self._op("Add", new, self._op("Mul", reset, before))
        else:
            new = more(new, self._op("Mul", reset, h), rn, bn)
        new = self._op(act[1], new)
        return self._op("Add", new, self._op("Mul", z, self._op("Sub", h, new))), None

    def _split(self, value: Any, parts: int, axis: int = 1, size: int = 0) -> List[Any]:
        size = size or self._hidden
        return [
            self._op("Slice", value, *[self._ints([each]) for each in (part * size, (part + 1) * size, axis)])
            for part in range(parts)
        ]

    def _select(self, value: Any, direction: int) -> Any:
        return self._op("Gather", value, self._number(direction), axis=0)

    def _join(self, values: List[Any], axis: int) -> Any:
        return values[0] if len(values) == 1 else self._op("Concat", *values, axis=axis)

    def _op(self, kind: str, *inputs: Any, **attributes: Any) -> Any:
        node = ir.node(kind, list(inputs), attributes=attributes)
        self._graph.insert_before(self._node, node)
        return node.outputs[0]

    def _ints(self, values: List[int]) -> Any:
        return self._constant(np.array(values, np.int64))

    def _number(self, value: int) -> Any:
        return self._constant(np.array(value, np.int64))

    def _constant(self, value: Any) -> Any:
        return self._op("Constant", value=ir.tensor(np.asarray(value)))

    def _attribute(self, name: str, default: Any) -> Any:
        found = self._node.attributes.get(name)
        return default if found is None else found.value
