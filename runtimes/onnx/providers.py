"""Which of ONNX Runtime's execution providers run a model, and that these are the ones that do.

    [parameters]
    tensorrt = true            # before CUDA, where this ONNX Runtime and the machine have it
    allow_cpu_fallback = true  # serve on the CPU, slowly, where the device cannot be used

ONNX Runtime goes on without a provider that does not work, on the CPU, and only logs it.
"""

from typing import Any, Dict, List, Sequence

from runtimes.checks import parameter
from runtimes.contract import LoadError

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
PARAMETERS = ("tensorrt", "allow_cpu_fallback")


def asked(device: str, parameters: Dict[str, Any]) -> List[str]:
    """In order of preference. Raises LoadError for a wrong parameter."""
    tensorrt = parameter(parameters, "tensorrt", (False, True))
    if device == "cpu":
        return [CPU]  # with device = "auto", tensorrt = true is for machines with a device
    return [TENSORRT, CUDA, CPU] if tensorrt else [CUDA, CPU]


def may_fall_back(parameters: Dict[str, Any]) -> bool:
    return parameter(parameters, "allow_cpu_fallback", (False, True))


def usable(wanted: Sequence[str], built_in: Sequence[str], parameters: Dict[str, Any]) -> List[str]:
    """Those that this build of ONNX Runtime has. Raises LoadError when one that was asked for is missing."""
    missing = [name for name in wanted if name not in built_in]
    _complain(missing, "this build of ONNX Runtime has no %s", parameters)
    return [name for name in wanted if name in built_in]


def check(wanted: Sequence[str], running: Sequence[str], parameters: Dict[str, Any]) -> None:
    """Whether a session runs on what it was asked to. Raises LoadError when not."""
    missing = [name for name in wanted if name not in running]
    _complain(missing, "ONNX Runtime cannot use %s here: no device, or a library that does not load", parameters)


def _complain(missing: Sequence[str], said: str, parameters: Dict[str, Any]) -> None:
    if not missing:
        return
    reason = said % missing[0].replace("ExecutionProvider", "").replace("Tensorrt", "TensorRT")
    if not may_fall_back(parameters):
        raise LoadError(reason + "; allow_cpu_fallback = true in [parameters] serves it all the same")
    print(reason + "; going on without, as model.toml allows")
