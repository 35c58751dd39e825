"""The device that runs a model, and the precision in which it computes: [parameters] of model.toml.

device = "CPU"       or "GPU", "GPU.1", "NPU", "AUTO": OpenVINO's own names
precision = "f32"    or "bf16", "f16", and "auto" for what the device computes fastest
"""

import re
from typing import Any, Dict

from runtimes.checks import parameter, quoted
from runtimes.contract import LoadError, LoadOptions

PARAMETERS = ("device", "precision")
_PRECISIONS = ("f32", "bf16", "f16", "auto")


def chosen_device(core: Any, options: LoadOptions) -> str:
    """Return the device that model.toml names. Raises LoadError with the devices that exist if it does not exist."""
    if options.device != "cpu":
        raise LoadError(
            "OpenVINO does not use CUDA: 'device' in model.toml must be \"cpu\", and 'parameters.device' names "
            "OpenVINO's own devices"
        )
    device = options.parameters.get("device", "CPU")
    if not isinstance(device, str) or not re.fullmatch(r"AUTO|(CPU|GPU|NPU)(\.\d{1,2})?", device):
        raise LoadError('\'parameters.device\' in model.toml must be "CPU", "GPU", "NPU" or "AUTO"')
    kind, available = device.partition(".")[0], list(core.available_devices)
    same_kind = [each for each in available if each.partition(".")[0] == kind]
    if device == "AUTO" or device in available or (device == kind and same_kind):
        return device
    reason = _missing(core, device) if not same_kind else ""
    raise LoadError(
        "OpenVINO has no device '%s' here%s: it has %s; name one of them in 'parameters.device', or leave it out"
        % (device, reason, quoted(available))
    )


def _missing(core: Any, device: str) -> str:
    """Return the library that the device's plugin needs and does not find, in words; "" if that is not the reason."""
    try:
        core.get_property(device, "FULL_DEVICE_NAME")
    except Exception as error:  # that there is no such device is known; whatever it says may name the library
        library = re.search(r"(\S+\.so[.\d]*): cannot open shared object file", str(error))
        if library:
            return ", because the library %s is not installed" % library.group(1)
    return ""


def compile_properties(device: str, options: LoadOptions) -> Dict[str, Any]:
    """Return the properties with which a model is compiled.

    OpenVINO computes in BF16 on every CPU that can, which changes the third digit of an answer; here, only if asked.
    """
    precision = parameter(options.parameters, "precision", _PRECISIONS)
    properties: Dict[str, Any] = {} if precision == "auto" else {"INFERENCE_PRECISION_HINT": precision}
    if precision == "f32":
        properties["EXECUTION_MODE_HINT"] = "ACCURACY"
    if device.startswith("CPU"):
        properties["NUM_STREAMS"] = 1
        properties["INFERENCE_NUM_THREADS"] = options.threads
        # Every worker would pin its threads to the same cores.
        properties["ENABLE_CPU_PINNING"] = False
    return properties
