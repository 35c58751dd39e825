"""Where one layer or vertex is translated: what it reads, what it says, and the graph that grows."""

import math
from typing import Any, List, NoReturn, Sequence, Tuple

import numpy as np

from runtimes.onnx.graph import TYPES, Graph

from .choices import NONE, Choices
from .parameters import Parameters
from .settings import Settings
from .values import Fold, Value

# A few layers that enlarge what they get could ask for any memory.
_MAX_ELEMENTS = 1 << 28
# Of what a request tells, beside that.
_MAX_GROWN = 1 << 16
# Beside the rows. numpy has arrays of at most 32 dimensions.
_MAX_SIZES = 30
# What ONNX Runtime computes in single precision alone, on the CPU. The rest of a DOUBLE file's network stays double.
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
    """inputs: in DL4J's order."""

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
        """The only one. Refuses where there are several."""
        if len(self.inputs) != 1:
            self.refuse("it reads %d others, where one is known" % len(self.inputs))
        return self.inputs[0]

    def refuse(self, why: str) -> NoReturn:
        self.settings.refuse(why)

    def of(self, rank: int, *sizes: int) -> Value:
        """The only input, with that many sizes beside the rows; `sizes` are wanted ones, -1 for any."""
        value = self.input
        if len(value.sizes) != rank:
            self.refuse(
                "it takes activations of rank %d, and gets rank %d (%s): an input preprocessor is missing, or "
                "[[inputs]] in model.toml has another shape" % (rank + 1, len(value.sizes) + 1, shown(value.sizes))
            )
        for wanted, size in zip(sizes, value.sizes):
            if wanted >= 0 and size >= 0 and wanted != size:
                self.refuse("it takes sizes of %s, and gets %s" % (shown(sizes), shown(value.sizes)))
        return value

    def take(self, shape: Sequence[int], order: str) -> np.ndarray:
        return self.parameters.take(shape, order, self.settings)

    def constant(self, array: np.ndarray, called: str = "weights") -> str:
        return self.graph.constant(np.asarray(array, self.dtype), called)

    def scalar(self, value: float) -> str:
        return self.graph.scalar(value, self.dtype)

    def emit(self, op: str, *inputs: str, **attributes: Any) -> Any:
        """A node; its output's name, or a list where `outputs` asks for several."""
        if self.dtype != np.float64 or op not in _SINGLE_ONLY:
            return self.graph.emit(op, inputs, self.kind, **attributes)
        single = TYPES[np.dtype(np.float32)]
        cast = [name and self.graph.emit("Cast", [name], "single", to=single) for name in inputs]
        return self.graph.emit(
            "Cast", [self.graph.emit(op, cast, self.kind, **attributes)], self.kind, to=TYPES[self.dtype]
        )

    def value(self, name: str, sizes: Sequence[int], like: Value, grown: int = 1) -> Value:
        """What it gives, with the rows of `like`.

        grown  how many times larger it makes what only a request tells
        """
        if not possible(sizes):
            self.refuse("it gives values of sizes %s for one row" % shown(sizes))
        total = max(each.grown for each in [like, *self.inputs]) * grown
        if total > _MAX_GROWN:
            self.refuse("it and what is before it make the input's sizes, which only a request tells, too large")
        return Value(name, tuple(sizes), like.folds, total)

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """Of the sizes: the rows stay first."""
        if list(order) == sorted(order):
            return value
        name = self.emit("Transpose", value.name, perm=[0, *(place + 1 for place in order)])
        return self.value(name, [value.sizes[place] for place in order], value)

    def reshape(self, value: Value, sizes: Sequence[int]) -> Value:
        """Of the sizes; as many values. One of them may be -1."""
        if value.sizes == tuple(sizes):
            return value
        if list(sizes).count(-1) > 1:
            self.refuse("two of its sizes, %s, are told by a request only: give them in [[inputs]]" % shown(sizes))
        known = [size for size in value.sizes if size >= 0]
        if len(known) == len(value.sizes) and -1 not in sizes and math.prod(known) != math.prod(sizes):
            self.refuse("it takes %s values of each row, and gets %s" % (shown(sizes), shown(value.sizes)))
        given = self.value("", sizes, value)  # first, since ONNX's sizes have 64 bits
        return given._replace(name=self.emit("Reshape", value.name, self.graph.sizes(0, *sizes)))

    def slice(self, value: Value, axis: int, start: int, end: int, size: int, step: int = 1) -> Value:
        """Along one of the sizes (0 is the first after the rows); size: what is left of it."""
        sizes = self.graph.sizes
        name = self.emit("Slice", value.name, sizes(start), sizes(end), sizes(axis + 1), sizes(step))
        return self.value(name, [*value.sizes[:axis], size, *value.sizes[axis + 1 :]], value)

    def count(self, value: Value, axis: int) -> str:
        """A size as a request tells it, [1] int64; the rows' where axis is -1."""
        shape = self.emit("Shape", value.name)
        return self.emit("Slice", shape, self.graph.sizes(axis + 1), self.graph.sizes(axis + 2))

    def fold(self, value: Value, axis: int) -> Value:
        """Time steps as rows."""
        steps = value.sizes[axis]
        rest = [place for place in range(len(value.sizes)) if place != axis]
        turned = self.transpose(value, [axis, *rest])
        sizes = turned.sizes[1:]
        if any(size < 0 for size in sizes):
            self.refuse("it needs sizes that only a request tells: give them in [[inputs]]")
        told = "" if steps >= 0 else self.emit("Concat", self.count(value, -1), self.count(value, axis), axis=0)
        fold = Fold("time", steps, told)
        name = self.emit("Reshape", turned.name, self.graph.sizes(-1, *sizes))
        return turned._replace(name=name, sizes=sizes, folds=(*value.folds, fold))

    def unfold(self, value: Value, axis: int) -> Value:
        """Time steps that were made rows, as a size again."""
        if not value.folds or value.folds[-1].kind != "time":
            self.refuse("it takes time steps that were made rows before, and there are none")
        fold = value.folds[-1]
        if any(size < 0 for size in value.sizes):
            self.refuse("it needs sizes that only a request tells: give them in [[inputs]]")
        if fold.told:
            # No steps are none of each row. Told by -1, no rows would be left, on which ONNX Runtime's LSTM ends the
            # process.
            shape = self.emit("Concat", fold.told, self.graph.sizes(*value.sizes), axis=0)
            name = self.emit("Reshape", value.name, shape, allowzero=1)
        else:
            name = self.emit("Reshape", value.name, self.graph.sizes(-1, fold.count, *value.sizes))
        turned = value._replace(name=name, sizes=(fold.count, *value.sizes), folds=value.folds[:-1])
        back = list(range(1, len(turned.sizes)))
        return self.transpose(turned, [*back[:axis], 0, *back[axis:]])

    def channels_first(self, value: Value, last: bool) -> Value:
        """last: whether they are last in it."""
        rank = len(value.sizes)
        return self.transpose(value, [rank - 1, *range(rank - 1)]) if last else value

    def channels_back(self, value: Value, last: bool) -> Value:
        rank = len(value.sizes)
        return self.transpose(value, [*range(1, rank), 0]) if last else value

    def flag_of_format(self, name: str, first: str, last: str) -> bool:
        """Whether the layer's data has its channels last."""
        return self.settings.flag_of_format(name, first, last)


def possible(sizes: Sequence[int]) -> bool:
    """Whether one row can have these sizes."""
    told = [size for size in sizes if size != -1]
    return len(sizes) <= _MAX_SIZES and min(told, default=1) > 0 and math.prod(told) <= _MAX_ELEMENTS


def grown_by(more: int) -> int:
    """Of a size that only a request tells: about how many times larger it becomes by that many more. The few that
    padding adds are none, since most layers with padding take as many away."""
    return 1 + max(more, 0) // 8


def shown(sizes: Sequence[int]) -> str:
    return "[%s]" % ", ".join("?" if size < 0 else str(size) for size in sizes)


def same_sizes(values: Sequence[Value]) -> Tuple[int, ...]:
    """Those that all of them have, told by whichever knows it; () where they differ."""
    sizes = list(values[0].sizes)
    for value in values[1:]:
        if len(value.sizes) != len(sizes):
            return ()
        for place, size in enumerate(value.sizes):
            if size >= 0 and sizes[place] >= 0 and size != sizes[place]:
                return ()
            sizes[place] = max(size, sizes[place])
    return tuple(sizes)
