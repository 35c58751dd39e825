"""The onnx runtime with its path for CUDA devices, on the CPU. `test_bound_without_a_device` loads it."""

from runtimes.onnx import runtime
from runtimes.onnx.io_binding import bind_to_device


def load(options):
    model = runtime.load(options)
    model._run = bind_to_device(model._run.__self__, "cpu")  # type: ignore[attr-defined]
    return model
