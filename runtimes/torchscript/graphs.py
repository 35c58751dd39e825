"""CUDA graphs: records the kernels that a model launches for one shape of its inputs, and replays them as a whole.

This pays off for models with many short kernels, if launching them takes longer than running them. Each shape has its
own recording and memory, so models should declare `batch_sizes` to have few shapes.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional

import torch
from torch.utils._pytree import tree_map

from runtimes.contract import first_line

# Shapes that are recorded; all others run without a graph. Each recording keeps its own inputs, outputs and
# intermediate results on the device, so a higher limit costs device memory.
_MAX_GRAPHS = 32
# Runs before a recording: libraries choose their kernels in the first run, and TorchScript optimizes a graph in its
# second. PyTorch's own examples of CUDA graphs use three as well.
_WARMUP_RUNS = 3


class Recording(NamedTuple):
    graph: Any
    inputs: List[Any]
    outputs: Any


class Graphs:
    """Calls `call` on `stream`, by graphs. A shape that cannot be recorded runs without one, and the log says so."""

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
        for buffer, value in zip(recording.inputs, values):
            if isinstance(buffer, torch.Tensor):
                buffer.copy_(value)
        recording.graph.replay()
        # Copy the outputs, because the next replay overwrites them.
        return tree_map(lambda value: value.clone() if isinstance(value, torch.Tensor) else value, recording.outputs)

    def _record(self, values: List[Any]) -> Optional[Recording]:
        inputs = [value.clone() if isinstance(value, torch.Tensor) else value for value in values]
        for _ in range(_WARMUP_RUNS):
            self._call(inputs)  # an error here is reported for this request
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream):
                outputs = self._call(inputs)
        except RuntimeError as error:
            print("no CUDA graph for this shape: " + first_line(error))
            return None
        return Recording(graph, inputs, outputs)
