"""The context in which one function is translated: its inputs, its attributes, and the ONNX graph so far."""

import math
from typing import Any, List, NoReturn, Sequence, Tuple

import numpy as np

from runtimes.onnx.builder import TYPES, Graph

from .dictionary import Axis
from .functions import BATCH, Function
from .values import Value

# Of one row. A few functions that double their input could otherwise demand any amount of memory. 2**28 elements are
# 1 GiB in FP32.
_MAX_ELEMENTS = 1 << 28
# Total number of elements that depend on parameters only. ONNX Runtime computes these when it loads the model, so a
# small file could make loading take any amount of time.
_MAX_COMPUTED = 1 << 30
# CNTK uses indices far outside of this range for axes with a special meaning, such as all static axes.
# How CNTK calls static axes: the second is what versions up to 2.0 write.
_STATIC = ("staticAxisIdx=", "staticAxis_")
_ALL_ROWS = ("AllAxes", BATCH)
_MIN_STATIC_AXIS, _MAX_STATIC_AXIS = -1000, 1000


class TranslationContext:
    """
    inputs  in CNTK's order, constants converted to `dtype`
    name    name or uid of the function, for the names of its nodes
    """

    def __init__(self, function: Function, inputs: List[Value], graph: Graph) -> None:
        self.function, self.graph = function, graph
        self.dtype = self._datatype(inputs)
        self.inputs = [self._coerced(value) for value in inputs]
        self.name = function.name or function.uid

    @property
    def onnx_type(self) -> int:
        return TYPES[self.dtype]

    def refuse(self, why: str) -> NoReturn:
        self.function.refuse(why)

    def take(self, count: int) -> List[Value]:
        if len(self.inputs) != count:
            self.refuse("it has %d inputs, but must have %d" % (len(self.inputs), count))
        return self.inputs

    def attribute(self, name: str, kind: Any, *default: Any) -> Any:
        """Return an attribute of this type, or the default if it is absent. Raises LoadError for any other type."""
        value = self.function.attributes.get(name, *default)
        if name not in self.function.attributes and default:
            return default[0]
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.refuse("its attribute '%s' is not what CNTK 2.7 writes" % name)
        return value

    def emit(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.graph.emit(op, inputs, self.name, **attributes)

    def tensor(self, value: Value) -> str:
        """Return the name of the value's tensor. A constant gets one when it is first used."""
        return value.name if value.name else self.graph.constant(value.array, self.name + "_constant")

    def value(self, name: str, shape: Sequence[int], axes: Sequence[str]) -> Value:
        """Return a result with this static shape and these dynamic axes. Raises LoadError if it is too large."""
        count = math.prod(size for size in shape if size > 0)
        if count > _MAX_ELEMENTS:
            self.refuse("it produces more values than %d for one row" % _MAX_ELEMENTS)
        if not axes and not self.graph.compute(count, _MAX_COMPUTED):
            self.refuse("the functions up to here compute more values than %d of parameters alone" % _MAX_COMPUTED)
        return Value(name, tuple(shape), tuple(axes), self.dtype, None, all(each.uniform for each in self.inputs))

    def axis(self, axis: Axis, rank: int) -> int:
        """Return the index of a static axis in a row-major shape of this rank. CNTK counts from the other end."""
        if not isinstance(axis, Axis):
            self.refuse("its axis is not what CNTK 2.7 writes")
        if axis.name in _ALL_ROWS:
            self.refuse("it computes one value from all rows of a batch (along '%s'), and none for a row" % axis.name)
        if axis.name and not axis.name.startswith(_STATIC):
            self.refuse("it works along the dynamic axis '%s', which is not covered" % axis.name)
        if not _MIN_STATIC_AXIS < axis.index < _MAX_STATIC_AXIS:
            self.refuse("it works along all axes together, which is not covered")
        return rank - 1 - (axis.index + rank if axis.index < 0 else axis.index)

    def existing_axis(self, axis: Axis, rank: int) -> int:
        """As `axis`, but raises LoadError if the shape does not have the axis."""
        index = self.axis(axis, rank)
        if not 0 <= index < rank:
            self.refuse("it works along axis %d, which its input of rank %d does not have" % (axis.index, rank))
        return index

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """Change the static shape. The number of elements stays the same, and one size may be -1."""
        shape = tuple(shape)
        if value.shape == shape:
            return value
        if value.array is not None:
            return value._replace(name="", shape=shape, array=value.array.reshape(shape))
        if shape.count(-1) > 1:
            self.refuse("two of its sizes are dynamic, which is not covered")
        name = self.emit("Reshape", value.name, self.graph.sizes(*[0] * value.lead, *shape))
        return self.value(name, shape, value.axes)

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """Permute the static axes."""
        shape = tuple(value.shape[axis] for axis in order)
        if list(order) == sorted(order):
            return value
        if value.array is not None:
            return value._replace(name="", shape=shape, array=value.array.transpose(order))
        whole = [*range(value.lead), *(value.lead + axis for axis in order)]
        return self.value(self.emit("Transpose", value.name, perm=whole), shape, value.axes)

    def static_product(self, sizes: Sequence[int]) -> int:
        """Return the product of the sizes. Raises LoadError if one is dynamic."""
        if any(size < 0 for size in sizes):
            self.refuse("it needs a fixed size, and that size is dynamic")
        return math.prod(sizes)

    def shared_axes(self, values: Sequence[Value]) -> Tuple[str, ...]:
        """Return the dynamic axes of the result: those of all inputs that have any."""
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
        """Convert a constant to the datatype of the other inputs."""
        if value.dtype == self.dtype or value.array is None:
            return value
        return value._replace(name="", dtype=self.dtype, array=value.array.astype(self.dtype))
