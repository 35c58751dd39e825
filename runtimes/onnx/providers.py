"""Selects ONNX Runtime's execution providers for a model, and checks that the session uses them.

    [parameters]
    tensorrt = true            # prefer TensorRT to CUDA
    allow_cpu_fallback = true  # serve on the CPU, slowly, if the device cannot be used

The check is needed because ONNX Runtime only logs when a provider does not work, and continues on the CPU.
"""

from typing import Any, Dict, List, Sequence

from runtimes.checks import parameter
from runtimes.contract import LoadError

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
PARAMETERS = ("tensorrt", "allow_cpu_fallback")


def requested(device: str, parameters: Dict[str, Any]) -> List[str]:
    """Return the providers for a device, in order of preference. Raises LoadError for an invalid parameter."""
    tensorrt = parameter(parameters, "tensorrt", (False, True))
    if device == "cpu":
        return [
            CPU
        ]  # no error, because with device = "auto" the same model.toml is used on machines with and without a GPU
    return [TENSORRT, CUDA, CPU] if tensorrt else [CUDA, CPU]


def may_fall_back(parameters: Dict[str, Any]) -> bool:
    return parameter(parameters, "allow_cpu_fallback", (False, True))


def available(requested_names: Sequence[str], built_in: Sequence[str], parameters: Dict[str, Any]) -> List[str]:
    """Return those of the providers that this build of ONNX Runtime has. Raises LoadError if one is missing."""
    missing = [name for name in requested_names if name not in built_in]
    _report(missing, "this build of ONNX Runtime has no %s", parameters)
    return [name for name in requested_names if name in built_in]


def check(requested_names: Sequence[str], running: Sequence[str], parameters: Dict[str, Any]) -> None:
    """Raise LoadError if a session does not use all of the requested providers."""
    missing = [name for name in requested_names if name not in running]
    _report(
        missing, "ONNX Runtime cannot use %s here, because there is no device or a library cannot be loaded", parameters
    )


def _report(missing: Sequence[str], message: str, parameters: Dict[str, Any]) -> None:
    if not missing:
        return
    reason = message % missing[0].replace("ExecutionProvider", "").replace("Tensorrt", "TensorRT")
    if not may_fall_back(parameters):
        raise LoadError(reason + "; allow_cpu_fallback = true in [parameters] serves the model without it")
    print(reason + "; continuing without it, as model.toml allows")
