"""The onnx runtime as it is on a CUDA device, without one: `test_bound_without_a_device` loads this."""

from runtimes.onnx import runtime
from runtimes.onnx.bound import bound


def load(options):
    model = runtime.load(options)
    model._run = bound(model._run.__self__, "cpu")
    return model
