"""Runs a session with its inputs and outputs on the device: one copy of each in, one copy of each out.

Without that, ONNX Runtime decides by itself when it copies, and may do so for each node that runs on the CPU.
"""

from typing import Any, Callable, Dict, List, Sequence

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from runtimes.contract import InvalidInput

Run = Callable[[Sequence[str], Dict[str, np.ndarray]], List[Any]]


def bound(session: ort.InferenceSession, device: str) -> Run:
    """What runs the session on a device ("cuda"): bound to it, but for models of strings, which no device has."""
    if any(node.type == "tensor(string)" for node in session.get_inputs() + session.get_outputs()):
        return session.run
    inputs = [node.name for node in session.get_inputs()]

    def run(wanted: Sequence[str], feed: Dict[str, np.ndarray]) -> List[Any]:
        for name in inputs:
            if name not in feed:
                raise InvalidInput("input '%s' is missing" % name)
        try:
            return _run(session, device, wanted, feed)
        except RuntimeError as error:  # where the session's own `run` has several kinds
            raise Fail(str(error)) from error

    return run


def _run(
    session: ort.InferenceSession, device: str, wanted: Sequence[str], feed: Dict[str, np.ndarray]
) -> List[np.ndarray]:
    binding = session.io_binding()
    for name, array in feed.items():
        if array.dtype == object:
            raise InvalidInput("input '%s' holds strings, and the model has none" % name)
        contiguous = np.ascontiguousarray(array).reshape(array.shape)
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(contiguous, device, 0))
    for name in wanted:
        binding.bind_output(name, device, 0)
    session.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()
