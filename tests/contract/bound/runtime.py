"""The onnx runtime with its path for CUDA devices, on the CPU. `test_bound_without_a_device` loads it."""

from runtimes.onnx import runtime
from runtimes.onnx.io_binding import bind_to_device


def load(options):
    runtime.direct_run = lambda session: bind_to_device(session, "cpu")
    return runtime.load(options)
