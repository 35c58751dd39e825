"""Vertices of a ComputationGraph (org.deeplearning4j.nn.graph.vertex.impl).

- Merge joins along mergeAxis; files before beta7 lack this field, and use axis 1. Subset is inclusive at both ends.
- ElementWise broadcasts as numpy does. Subset, Stack (axis 0), DuplicateToTimeSeries, LastTimeStep and
  ReverseTimeSeries do not know data formats: channels are axis 1, time is axis 2.
- Stack of sequences that differ in length pads the shorter ones with zeros at the end.
- L2Vertex has an eps, which only its gradient uses. L2Normalize divides by max(norm, eps), not by norm + eps.
- Reshape: newShape includes the batch; -1 is inferred from the size. The order is 'c' or 'f'.
- PoolHelper drops the first row and the first column (for imported GoogLeNets).
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from tests.unit.runtimes.dl4j.reference_parameters import Array, Configuration, kind


def element_wise(inputs: list[Array], op: str) -> Array:
    operations: dict[str, Callable[[], Any]] = {
        "Add": lambda: reduce(np.add, inputs),
        "Average": lambda: reduce(np.add, inputs) / len(inputs),
        "Subtract": lambda: np.subtract(*inputs),
        "Product": lambda: reduce(np.multiply, inputs),
        "Max": lambda: reduce(np.maximum, inputs),
    }
    return np.asarray(operations[op]() if len(inputs) > 1 else inputs[0])


def stack(inputs: list[Array]) -> Array:
    if inputs[0].ndim == 3:
        longest = max(each.shape[2] for each in inputs)
        inputs = [np.pad(each, [(0, 0), (0, 0), (0, longest - each.shape[2])]) for each in inputs]
    return np.concatenate(inputs)


def unstack(x: Array, conf: Configuration) -> Array:
    step = x.shape[0] // conf["stackSize"]
    return x[conf["from"] * step : (conf["from"] + 1) * step]


def l2(a: Array, b: Array) -> Array:
    return np.sqrt(((a - b) ** 2).reshape(a.shape[0], -1).sum(axis=1, keepdims=True))


def l2_normalize(x: Array, conf: Configuration) -> Array:
    axes = tuple(conf.get("dimension") or range(1, x.ndim))
    return x / np.maximum(np.sqrt((x**2).sum(axis=axes, keepdims=True)), conf["eps"])


def reshape(x: Array, conf: Configuration) -> Array:
    return x.reshape(conf["newShape"], order="F" if conf.get("reshapeOrder", "c") == "f" else "C")


VERTICES: dict[str, Callable[[list[Array], Configuration], Array]] = {
    "MergeVertex": lambda xs, conf: np.concatenate(xs, axis=conf.get("mergeAxis", 1)),
    "ElementWiseVertex": lambda xs, conf: element_wise(xs, conf["op"]),
    "SubsetVertex": lambda xs, conf: xs[0][:, conf["from"] : conf["to"] + 1],
    "StackVertex": lambda xs, conf: stack(xs),
    "UnstackVertex": lambda xs, conf: unstack(xs[0], conf),
    "ScaleVertex": lambda xs, conf: xs[0] * conf["scaleFactor"],
    "ShiftVertex": lambda xs, conf: xs[0] + conf["shiftFactor"],
    "L2Vertex": lambda xs, conf: l2(*xs),
    "L2NormalizeVertex": lambda xs, conf: l2_normalize(xs[0], conf),
    "ReshapeVertex": lambda xs, conf: reshape(xs[0], conf),
    "PoolHelperVertex": lambda xs, conf: xs[0][:, :, 1:, 1:],
    "LastTimeStepVertex": lambda xs, conf: xs[0][:, :, -1],
    "ReverseTimeSeriesVertex": lambda xs, conf: xs[0][:, :, ::-1],
}


def vertex(inputs: list[Array], conf: Configuration) -> Array:
    return VERTICES[kind(conf)](inputs, conf)
