"""The context in which one layer or vertex is translated: its inputs, its settings, and the ONNX graph so far."""

import math
from typing import Any, List, NoReturn, Sequence, Tuple

import numpy as np

from runtimes.onnx.builder import TYPES, Graph

from .choices import NONE, Choices
from .parameters import Parameters
from .settings import Settings
from .values import Fold, Value

# Of one row. A few upsampling layers could otherwise demand any amount of memory. 2**28 elements are 1 GiB in FP32.
_MAX_ELEMENTS = 1 << 28
# How much padding, upsampling and stacking may enlarge the dynamic sizes of a request, in total. Lower limits refuse
# networks that upsample a lot, higher ones let a small request allocate gigabytes.
_MAX_GROWTH = 1 << 16
# Not counting the rows. numpy arrays have at most 32 dimensions.
_MAX_RANK = 30
# ONNX Runtime has only FP32 kernels for these on the CPU. The rest of a DOUBLE network stays double.
_SINGLE_ONLY = (
    "AveragePool",
    "Conv",
    "ConvTranspose",
    "Elu",
    "LRN",
    "LSTM",
    "LpPool",
    "RNN",
    "Resize",
    "Selu",
    "Softplus",
)


class TranslationContext:
    """
    kind    class of the layer or vertex, without DL4J's package
    inputs  its inputs in DL4J's order
    """

    def __init__(
        self,
        kind: str,
        settings: Settings,
        inputs: List[Value],
        graph: Graph,
        parameters: Parameters,
        choices: Choices = NONE,
    ) -> None:
        self.kind, self.settings, self.inputs = kind, settings, inputs
        self.graph, self.parameters = graph, parameters
        self.choices = choices

    @property
    def dtype(self) -> np.dtype:
        return self.parameters.dtype

    @property
    def onnx_type(self) -> int:
        return TYPES[self.dtype]

    @property
    def input(self) -> Value:
        """The only input. Raises LoadError if there are several."""
        if len(self.inputs) != 1:
            self.refuse("it has %d inputs, and only one is supported" % len(self.inputs))
        return self.inputs[0]

    def refuse(self, why: str) -> NoReturn:
        self.settings.refuse(why)

    def checked_input(self, rank: int, *sizes: int) -> Value:
        """Return the only input after checking its rank (without the rows) and its sizes; -1 allows any size."""
        value = self.input
        if len(value.sizes) != rank:
            self.refuse(
                "it expects activations of rank %d but gets rank %d (%s): an input preprocessor is missing, or "
                "[[inputs]] in model.toml has a different shape"
                % (rank + 1, len(value.sizes) + 1, format_sizes(value.sizes))
            )
        for expected, size in zip(sizes, value.sizes):
            if expected >= 0 and size >= 0 and expected != size:
                self.refuse("it expects sizes of %s but gets %s" % (format_sizes(sizes), format_sizes(value.sizes)))
        return value

    def take(self, shape: Sequence[int], order: str) -> np.ndarray:
        """Consume the next parameters of the network, in this layer's shape."""
        return self.parameters.take(shape, order, self.settings)

    def constant(self, array: np.ndarray, name: str = "weights") -> str:
        return self.graph.constant(np.asarray(array, self.dtype), name)

    def scalar(self, value: float) -> str:
        return self.graph.scalar(value, self.dtype)

    def emit(self, op: str, *inputs: str, **attributes: Any) -> Any:
        """Add a node and return the name of its output, or a list of names if `outputs` asks for several."""
        if self.dtype != np.float64 or op not in _SINGLE_ONLY:
            return self.graph.emit(op, inputs, self.kind, **attributes)
        single = TYPES[np.dtype(np.float32)]
        cast = [name and self.graph.emit("Cast", [name], "single", to=single) for name in inputs]
        return self.graph.emit(
            "Cast", [self.graph.emit(op, cast, self.kind, **attributes)], self.kind, to=TYPES[self.dtype]
        )

    def value(self, name: str, sizes: Sequence[int], like: Value, growth: int = 1) -> Value:
        """Return an output with the rows of `like`. Raises LoadError if its sizes exceed the limits.

        growth  by which factor this layer enlarges its input's dynamic sizes
        """
        if not is_possible(sizes):
            self.refuse("it produces values of sizes %s for one row" % format_sizes(sizes))
        total = max(each.growth for each in [like, *self.inputs]) * growth
        if total > _MAX_GROWTH:
            self.refuse("the layers up to this one make the dynamic sizes of the input too large")
        return Value(name, tuple(sizes), like.folds, total)

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """Permute the sizes. The rows stay first and are not counted in `order`."""
        if list(order) == sorted(order):
            return value
        name = self.emit("Transpose", value.name, perm=[0, *(axis + 1 for axis in order)])
        return self.value(name, [value.sizes[axis] for axis in order], value)

    def reshape(self, value: Value, sizes: Sequence[int]) -> Value:
        """Reshape each row to `sizes`, of which one may be -1. Raises LoadError if the number of elements differs."""
        if value.sizes == tuple(sizes):
            return value
        if list(sizes).count(-1) > 1:
            self.refuse("two of its sizes, %s, are dynamic: set them in [[inputs]]" % format_sizes(sizes))
        known = [size for size in value.sizes if size >= 0]
        if len(known) == len(value.sizes) and -1 not in sizes and math.prod(known) != math.prod(sizes):
            self.refuse("it expects %s values per row but gets %s" % (format_sizes(sizes), format_sizes(value.sizes)))
        # Checked before the sizes become a constant of 64-bit integers, which could overflow.
        reshaped = self.value("", sizes, value)
        return reshaped._replace(name=self.emit("Reshape", value.name, self.graph.sizes(0, *sizes)))

    def slice(self, value: Value, axis: int, start: int, end: int, size: int, step: int = 1) -> Value:
        """Slice one of the sizes. Axis 0 is the first after the rows; `size` is what remains of that size."""
        sizes = self.graph.sizes
        name = self.emit("Slice", value.name, sizes(start), sizes(end), sizes(axis + 1), sizes(step))
        return self.value(name, [*value.sizes[:axis], size, *value.sizes[axis + 1 :]], value)

    def dynamic_size(self, value: Value, axis: int) -> str:
        """Return a tensor [1], INT64, with a size at run time; axis -1 is the number of rows."""
        shape = self.emit("Shape", value.name)
        return self.emit("Slice", shape, self.graph.sizes(axis + 1), self.graph.sizes(axis + 2))

    def fold(self, value: Value, axis: int) -> Value:
        """Turn the time steps along `axis` into rows."""
        steps = value.sizes[axis]
        rest = [each for each in range(len(value.sizes)) if each != axis]
        transposed = self.transpose(value, [axis, *rest])
        sizes = transposed.sizes[1:]
        if any(size < 0 for size in sizes):
            self.refuse("it needs fixed sizes, and some are dynamic: set them in [[inputs]]")
        dims = ""
        if steps < 0:
            dims = self.emit("Concat", self.dynamic_size(value, -1), self.dynamic_size(value, axis), axis=0)
        fold = Fold("time", steps, dims)
        name = self.emit("Reshape", transposed.name, self.graph.sizes(-1, *sizes))
        return transposed._replace(name=name, sizes=sizes, folds=(*value.folds, fold))

    def unfold(self, value: Value, axis: int) -> Value:
        """Undo `fold`: turn rows back into time steps along `axis`."""
        if not value.folds or value.folds[-1].kind != "time":
            self.refuse("it expects time steps that were turned into rows before, and there are none")
        fold = value.folds[-1]
        if any(size < 0 for size in value.sizes):
            self.refuse("it needs fixed sizes, and some are dynamic: set them in [[inputs]]")
        if fold.dims:
            # The number of rows must be explicit: with zero steps, -1 would infer zero rows, and ONNX Runtime's LSTM
            # crashes the process on an empty batch.
            shape = self.emit("Concat", fold.dims, self.graph.sizes(*value.sizes), axis=0)
            name = self.emit("Reshape", value.name, shape, allowzero=1)
        else:
            name = self.emit("Reshape", value.name, self.graph.sizes(-1, fold.count, *value.sizes))
        unfolded = value._replace(name=name, sizes=(fold.count, *value.sizes), folds=value.folds[:-1])
        rest = list(range(1, len(unfolded.sizes)))
        return self.transpose(unfolded, [*rest[:axis], 0, *rest[axis:]])

    def channels_first(self, value: Value, last: bool) -> Value:
        """Move the channels to the front. last: they are at the end; otherwise nothing is done."""
        rank = len(value.sizes)
        return self.transpose(value, [rank - 1, *range(rank - 1)]) if last else value

    def restore_channels(self, value: Value, last: bool) -> Value:
        """Undo `channels_first`."""
        rank = len(value.sizes)
        return self.transpose(value, [*range(1, rank), 0]) if last else value

    def channels_last(self, name: str, first: str, last: str) -> bool:
        """Whether this field says that the layer's data has its channels last."""
        return self.settings.channels_last(name, first, last)


def is_possible(sizes: Sequence[int]) -> bool:
    """Whether one row can have these sizes."""
    known = [size for size in sizes if size != -1]
    return len(sizes) <= _MAX_RANK and min(known, default=1) > 0 and math.prod(known) <= _MAX_ELEMENTS


def padding_growth(padding: int) -> int:
    """Return the approximate factor by which padding enlarges a dynamic size, if that size is at least 8.

    Padding of less than 8 counts as none, because most padded layers remove as much again.
    """
    return 1 + max(padding, 0) // 8


def format_sizes(sizes: Sequence[int]) -> str:
    return "[%s]" % ", ".join("?" if size < 0 else str(size) for size in sizes)


def common_sizes(values: Sequence[Value]) -> Tuple[int, ...]:
    """Return the sizes that all values have, each from any value that knows it; () if they differ."""
    sizes = list(values[0].sizes)
    for value in values[1:]:
        if len(value.sizes) != len(sizes):
            return ()
        for axis, size in enumerate(value.sizes):
            if size >= 0 and sizes[axis] >= 0 and size != sizes[axis]:
                return ()
            sizes[axis] = max(size, sizes[axis])
    return tuple(sizes)
