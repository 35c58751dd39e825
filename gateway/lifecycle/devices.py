"""Chooses the devices of a model's instances, from `device` in model.toml and the GPUs of the machine.

GPUs are numbered as the gateway itself may use them: GPU N is the Nth entry of the gateway's own CUDA_VISIBLE_DEVICES
or, if that is not set, the Nth in PCI bus order, which is also the order of nvidia-smi.
"""

import ctypes
import os
from collections.abc import Mapping

from gateway.environments.errors import EnvironmentUnavailable


def placement(device: tuple[str, ...], accelerator: str, built_for: str, gpu_count: int) -> tuple[str, ...]:
    """Return the devices ("cpu" or "cuda:N") on each of which a model gets `instances` workers.

    accelerator  the one that the gateway was started for
    built_for    the one that the runtime's environment is for; "cpu" if its framework has no packages for `accelerator`
    gpu_count    number of GPUs that the gateway may use

    Raises EnvironmentUnavailable.
    """
    if device == ("auto",):
        return ("cuda:0",) if built_for == "cuda" and gpu_count else ("cpu",)
    chosen = tuple("cuda:0" if each == "cuda" else each for each in device)
    if chosen != ("cpu",) and accelerator != "cuda":
        raise EnvironmentUnavailable(
            f"device = {format_device(device)}, but this gateway runs on the CPU; start it with --accelerator cuda"
        )
    if chosen != ("cpu",) and built_for != "cuda":
        raise EnvironmentUnavailable(
            f"device = {format_device(device)}, but its runtime's packages are the CPU's; leave device out"
        )
    return chosen


def device_variables(device: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that let a worker see only its own device. Raises EnvironmentUnavailable.

    A worker cannot do this for itself: many frameworks initialize CUDA when they are imported.
    """
    kind, _, gpu = device.partition(":")
    if kind == "cpu":
        return {"CUDA_VISIBLE_DEVICES": ""}
    order = {"CUDA_DEVICE_ORDER": environment.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")}
    visible = _visible_devices(environment)
    if visible is None:
        return {"CUDA_VISIBLE_DEVICES": gpu, **order}
    if int(gpu) >= len(visible):
        raise EnvironmentUnavailable(
            f"there is no card {gpu}: CUDA_VISIBLE_DEVICES leaves {len(visible)} to this gateway"
        )
    return {"CUDA_VISIBLE_DEVICES": visible[int(gpu)], **order}


def count_gpus(environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of GPUs that the gateway may use; 0 without a driver.

    NVIDIA's management library counts them. CUDA itself would start a thread in the supervisor and allocate memory
    on a GPU.
    """
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        count = ctypes.c_uint()
        if library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return 0
        library.nvmlShutdown()
    except (OSError, AttributeError):
        return 0
    visible = _visible_devices(environment)
    return count.value if visible is None else min(count.value, len(visible))


def format_device(device: tuple[str, ...]) -> str:
    """Return the device as model.toml has it, with single quotes."""
    return f"'{device[0]}'" if len(device) == 1 else str(list(device))


def _visible_devices(environment: Mapping[str, str]) -> list[str] | None:
    """Return the entries of CUDA_VISIBLE_DEVICES; None if it is not set. Like CUDA, stop at the first invalid one."""
    if "CUDA_VISIBLE_DEVICES" not in environment:
        return None
    entries = [entry.strip() for entry in environment["CUDA_VISIBLE_DEVICES"].split(",")]
    end = next((index for index, entry in enumerate(entries) if entry in ("", "-1")), len(entries))
    return entries[:end]
