"""Loads PyTorch models: TorchScript archives (.pt, .pth, .jit), exported programs and AOTInductor's packages (.pt2).

`scripted.py`, `exported.py` and `aoti.py` read the signatures of the three forms, and each produces a `Program`, which
a `TorchModel` (`program.py`) runs.
"""

import warnings
import zipfile
from typing import Any

import torch

from runtimes.checks import known_parameters, parameter
from runtimes.contract import LoadError, LoadOptions

from . import aoti, exported, extras, precision, scripted
from .cuda import CUDA, DeviceModel
from .program import TorchModel
from .screening import is_compiled


def before_forks() -> None:
    """Run a small module, compiled by TorchScript, on this thread alone."""
    ones = torch.ones(2, 2)
    module = torch.jit.trace(lambda x, w: torch.relu(torch.nn.functional.linear(x, w)), (ones, ones), check_trace=False)
    with torch.inference_mode():
        for rows in (2, 2, 3):  # the first runs of a shape are for the profile, and the next one compiles
            module(torch.ones(rows, 2), ones)


def after_fork(seed: int) -> None:
    torch.default_generator.manual_seed(seed)


def load(options: LoadOptions) -> TorchModel:
    known_parameters(options.parameters, ("precision", "channels_last", "cuda_graphs", "inference_mode"))
    is_set = "inference_mode" in options.parameters
    inference_mode = parameter(options.parameters, "inference_mode", (True, False)) if is_set else None
    graphs = parameter(options.parameters, "cuda_graphs", (False, True))
    torch.set_num_threads(options.threads)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise LoadError("PyTorch found no usable CUDA device")
    # The worker's arrays are read-only, but PyTorch has no read-only tensors: see `TorchModel`.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated")
    broken = extras.import_installed()
    try:
        program = precision.apply_parameters(_form(options.artifact).load(options), options.parameters)
    except LoadError as error:
        explained = extras.explain(error, broken)
        if explained is error:  # an exception that is its own cause has no end
            raise
        raise explained from error
    if options.device != "cpu" and graphs and not program.pure:
        raise LoadError("'parameters.cuda_graphs' is true, but this model writes to its tensors in place")
    if options.device == "cpu":
        model = TorchModel(program, inference_mode)
    else:
        model = DeviceModel(program, CUDA, graphs, inference_mode)
    model.options = options
    return model


def _form(artifact: str) -> Any:
    if not artifact.endswith(".pt2"):
        return scripted
    with zipfile.ZipFile(artifact) as archive:
        return aoti if is_compiled(archive.namelist()) else exported
