"""PyTorch models: TorchScript archives (.pt, .pth, .jit) and exported programs (.pt2).

The suffix tells which; how each says what it takes and gives is in `scripted.py` and
`exported.py`, and both make one `TorchModel` (`program.py`), which is all that runs.
"""

import warnings

import torch

from runtimes.contract import LoadError, LoadOptions, Model
from runtimes.torchscript import exported, scripted
from runtimes.torchscript.program import TorchModel


def load(options: LoadOptions) -> Model:
    torch.set_num_threads(options.threads)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise LoadError("PyTorch found no usable CUDA device")
    # The gateway's arrays are read-only and PyTorch has no such tensors: see `TorchModel`.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated")
    form = exported if options.artifact.endswith(".pt2") else scripted
    return TorchModel(form.load(options), options.device)
