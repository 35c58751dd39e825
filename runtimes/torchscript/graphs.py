"""CUDA graphs: what a model launches for one shape of its inputs is recorded once and replayed as a whole.

It pays for models of many short kernels, whose launches take the CPU longer than the device. Each
shape has a recording with memory of its own: declare `batch_sizes`, so that there are few.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional

import torch
from torch.utils._pytree import tree_map

from runtimes.contract import first_line

_MAX_GRAPHS = 32
# PyTorch's libraries and TorchScript's optimiser settle what they launch in the first runs.
_RUNS_BEFORE = 3


class Recording(NamedTuple):
    graph: Any
    inputs: List[Any]
    outputs: Any


class Graphs:
    """Called like `call`, on `stream`. What cannot be recorded runs without a graph; the log says so."""

    def __init__(self, call: Callable[[List[Any]], Any], stream: Any) -> None:
        self._call = call
        self._stream = stream
        self._recordings: Dict[Any, Optional[Recording]] = {}

    def __call__(self, values: List[Any]) -> Any:
        key = tuple((value.shape, value.dtype) if isinstance(value, torch.Tensor) else value for value in values)
        if key not in self._recordings:
            if len(self._recordings) >= _MAX_GRAPHS:
                return self._call(values)
            self._recordings[key] = self._record(values)
        recording = self._recordings[key]
        if recording is None:
            return self._call(values)
        for place, value in zip(recording.inputs, values):
            if isinstance(place, torch.Tensor):
                place.copy_(value)
        recording.graph.replay()
        # The next replay writes to the same memory.
        return tree_map(lambda value: value.clone() if isinstance(value, torch.Tensor) else value, recording.outputs)

    def _record(self, values: List[Any]) -> Optional[Recording]:
        inputs = [value.clone() if isinstance(value, torch.Tensor) else value for value in values]
        for _ in range(_RUNS_BEFORE):
            self._call(inputs)  # its errors are the request's
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream):
                outputs = self._call(inputs)
        except RuntimeError as error:
            print("no CUDA graph for this shape: " + first_line(error))
            return None
        return Recording(graph, inputs, outputs)
