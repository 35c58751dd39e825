"""Where one function is translated: what it reads, what it says, and the graph that grows."""

import math
from typing import Any, List, NoReturn, Sequence, Tuple

import numpy as np

from runtimes.onnx.graph import TYPES, Graph

from .dictionary import Axis
from .functions import Function
from .values import Value

# A few functions that double what they get could ask for any memory.
_MAX_ELEMENTS = 1 << 28
# Of what is the same for all requests, over all functions: ONNX Runtime computes it when it loads the model.
_MAX_COMPUTED = 1 << 30
_LOWEST_STATIC, _MAX_STATIC = -1000, 1000


class TranslationContext:
    """inputs: CNTK's order, of one datatype: `dtype`."""

    def __init__(self, function: Function, inputs: List[Value], graph: Graph) -> None:
        self.function, self.graph = function, graph
        self.dtype = self._datatype(inputs)
        self.inputs = [self._coerced(value) for value in inputs]
        self.called = function.name or function.uid

    @property
    def onnx_type(self) -> int:
        return TYPES[self.dtype]

    def refuse(self, why: str) -> NoReturn:
        self.function.refuse(why)

    def take(self, count: int) -> List[Value]:
        if len(self.inputs) != count:
            self.refuse("it has %d inputs where %d are known" % (len(self.inputs), count))
        return self.inputs

    def attribute(self, name: str, kind: Any, *default: Any) -> Any:
        """Of this type, or the default. Refuses what is absent without one, or another thing."""
        value = self.function.attributes.get(name, *default)
        if name not in self.function.attributes and default:
            return default[0]
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.refuse("its attribute '%s' is not what CNTK 2.7 writes" % name)
        return value

    def emit(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.graph.emit(op, inputs, self.called, **attributes)

    def name(self, value: Value) -> str:
        """Its tensor's, which a constant may not have yet."""
        return value.name if value.name else self.graph.constant(value.array, self.called + "_constant")

    def value(self, name: str, shape: Sequence[int], axes: Sequence[str]) -> Value:
        count = math.prod(size for size in shape if size > 0)
        if count > _MAX_ELEMENTS:
            self.refuse("it gives more values than %d for one row" % _MAX_ELEMENTS)
        if not axes and not self.graph.compute(count, _MAX_COMPUTED):
            self.refuse("it and others compute more values than %d of parameters alone" % _MAX_COMPUTED)
        return Value(name, tuple(shape), tuple(axes), self.dtype, None, all(each.uniform for each in self.inputs))

    def axis(self, axis: Axis, rank: int) -> int:
        """A static axis's place in a row-major shape of this rank. CNTK counts from the other end; -1 is its last."""
        if not isinstance(axis, Axis):
            self.refuse("its axis is not what CNTK 2.7 writes")
        if axis.name and not axis.name.startswith("staticAxisIdx="):
            self.refuse("it works along the dynamic axis '%s', which is not covered" % axis.name)
        if not _LOWEST_STATIC < axis.index < _MAX_STATIC:
            self.refuse("it works along all axes at once, which is not covered")
        return rank - 1 - (axis.index + rank if axis.index < 0 else axis.index)

    def existing_axis(self, axis: Axis, rank: int) -> int:
        place = self.axis(axis, rank)
        if not 0 <= place < rank:
            self.refuse("it works along an axis %d that its input of rank %d lacks" % (axis.index, rank))
        return place

    def reshape(self, value: Value, shape: Sequence[int], lead: int = -1) -> Value:
        """To another static shape of as many values; one size in it may be -1."""
        shape = tuple(shape)
        if value.shape == shape:
            return value
        if value.array is not None:
            return value._replace(name="", shape=shape, array=value.array.reshape(shape))
        if shape.count(-1) > 1:
            self.refuse("two of its sizes are told by a request only")
        name = self.emit("Reshape", value.name, self.graph.sizes(*[0] * value.lead, *shape))
        return self.value(name, shape, value.axes)

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """Of static axes."""
        shape = tuple(value.shape[place] for place in order)
        if list(order) == sorted(order):
            return value
        if value.array is not None:
            return value._replace(name="", shape=shape, array=value.array.transpose(order))
        whole = [*range(value.lead), *(value.lead + place for place in order)]
        return self.value(self.emit("Transpose", value.name, perm=whole), shape, value.axes)

    def definite(self, sizes: Sequence[int]) -> int:
        """Their product. Refuses what only a request tells."""
        if any(size < 0 for size in sizes):
            self.refuse("it needs a size that only a request tells")
        return math.prod(sizes)

    def shared_axes(self, values: Sequence[Value]) -> Tuple[str, ...]:
        """The dynamic axes of what it gives: those of all inputs that have any."""
        found = {value.axes for value in values if value.axes}
        if len(found) > 1:
            self.refuse("its inputs have different dynamic axes")
        return found.pop() if found else ()

    def _datatype(self, inputs: List[Value]) -> np.dtype:
        variables = [value.dtype for value in inputs if value.array is None]
        if len(set(variables)) > 1:
            self.function.refuse("its inputs have different datatypes")
        return (variables or [value.dtype for value in inputs] or [np.dtype(np.float32)])[0]

    def _coerced(self, value: Value) -> Value:
        """Constants become what they meet."""
        if value.dtype == self.dtype or value.array is None:
            return value
        return value._replace(name="", dtype=self.dtype, array=value.array.astype(self.dtype))
