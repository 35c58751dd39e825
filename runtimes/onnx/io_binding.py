"""Runs a session with its inputs and outputs bound to the device, so that each is copied exactly once.

Without this, ONNX Runtime decides when to copy, and may copy for each node that runs on the CPU.
"""

from typing import Any, Dict, List, Sequence

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from runtimes.contract import InvalidInput

from .direct import Run


def bind_to_device(session: ort.InferenceSession, device: str) -> Run:
    """Return a function that runs the session with inputs and outputs on a device ("cuda").

    Models with string tensors run unbound, because strings exist on the CPU only.
    """
    if any(node.type == "tensor(string)" for node in session.get_inputs() + session.get_outputs()):
        return session.run

    def run(outputs: Sequence[str], feed: Dict[str, np.ndarray], options: ort.RunOptions) -> List[Any]:
        try:
            return _run(session, device, outputs, feed, options)
        except RuntimeError as error:  # `run` raises a subclass for each kind of error; binding does not
            raise Fail(str(error)) from error

    return run


def _run(
    session: ort.InferenceSession,
    device: str,
    outputs: Sequence[str],
    feed: Dict[str, np.ndarray],
    options: ort.RunOptions,
) -> List[np.ndarray]:
    binding = session.io_binding()
    for name, array in feed.items():
        if array.dtype == object:
            raise InvalidInput("input '%s' contains strings, but the model has no string inputs" % name)
        contiguous = np.ascontiguousarray(array).reshape(array.shape)
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(contiguous, device, 0))
    for name in outputs:
        binding.bind_output(name, device, 0)
    session.run_with_iobinding(binding, options)
    return binding.copy_outputs_to_cpu()
