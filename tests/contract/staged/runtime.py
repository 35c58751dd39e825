"""The torchscript runtime with its path for CUDA devices, on the CPU. `test_staged_without_a_device` loads it."""

import warnings

from runtimes.torchscript import exported, precision, scripted
from runtimes.torchscript.cuda import HOST, DeviceModel


def load(options):
    warnings.filterwarnings("ignore")
    form = exported if options.artifact.endswith(".pt2") else scripted
    return DeviceModel(precision.apply_parameters(form.load(options), options.parameters), HOST)
