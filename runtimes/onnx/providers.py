"""Selects ONNX Runtime's execution providers for a model, and checks that the session uses them.

    [parameters]
    execution_providers = ["OpenVINO"]            # in order of preference; the CPU's is always the last
    provider_options.OpenVINO = {device_type = "CPU"}
    tensorrt = true            # prefer TensorRT to CUDA
    allow_cpu_fallback = true  # serve on the CPU, slowly, if a provider cannot be used

The check is needed because ONNX Runtime only logs when a provider does not work, and continues on the CPU. Operators
that a provider lacks run on the CPU as well, so the log and the model's configuration say how many each of them runs.
"""

import re
from typing import Any, Dict, List, Sequence, Tuple

from runtimes.checks import names_parameter, parameter
from runtimes.contract import LoadError

_SUFFIX = "ExecutionProvider"
CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_CPU_ONLY = re.compile(r"\s*((AUTO|MULTI|HETERO):)?CPU\s*", re.IGNORECASE)
OPENVINO = "OpenVINOExecutionProvider"
PARAMETERS = ("execution_providers", "provider_options", "tensorrt", "allow_cpu_fallback")
# What ONNX Runtime calls them in its documentation. Those of cards need device = "cuda" in model.toml.
_CARDS = ("CUDA", "TensorRT", "NvTensorRTRTX", "MIGraphX")
_TITLES = (*_CARDS, "CPU", "OpenVINO", "XNNPACK", "DNNL", "ACL", "ArmNN", "CoreML", "QNN")
_DEBIAN = "no wheel has it, but Debian's python3-onnxruntime does; name that Python by --python onnx=PATH"
_BUILD = "no wheel has it; build ONNX Runtime with %s, and name its Python by --python onnx=PATH"
_GPU_WHEEL = "the wheel onnxruntime-gpu has it, which --accelerator cuda installs"
_PLUGIN = "the wheel %s has it as a plugin, which modelport does not load"
# Where to get them, for an error. The others are in the wheels of the runtime.
_SOURCES = {
    "CUDA": _GPU_WHEEL,
    "TensorRT": _GPU_WHEEL + " (not TensorRT's own libraries)",
    "NvTensorRTRTX": _PLUGIN % "onnxruntime-ep-nv-tensorrt-rtx",
    "MIGraphX": "the wheel onnxruntime-migraphx has it; name a Python with that wheel by --python onnx=PATH",
    "OpenVINO": 'extras = ["openvino"] in model.toml adds it',
    "XNNPACK": _DEBIAN,
    "DNNL": _DEBIAN,
    "ACL": _BUILD % "--use_acl",
    "ArmNN": _BUILD % "--use_armnn",
    "CoreML": "the wheel onnxruntime for macOS has it",
    "QNN": _PLUGIN % "onnxruntime-qnn",
}
_MAX_OPERATORS = 3  # that are named


def requested(device: str, parameters: Dict[str, Any]) -> List[str]:
    """Return the providers for a device, in order of preference. Raises LoadError for an invalid parameter."""
    titles = _wanted(parameters)
    if device == "cpu":
        # No error, because with device = "auto" the same model.toml is used on machines with and without a GPU.
        titles = [title for title in titles if title not in _CARDS]
    else:
        titles.append("CUDA")
    return [_name_of(title) for title in dict.fromkeys([each for each in titles if each != "CPU"] + ["CPU"])]


def _wanted(parameters: Dict[str, Any]) -> List[str]:
    titles = [_title_of(name) for name in names_parameter(parameters, "execution_providers", ())]
    return ["TensorRT", *titles] if parameter(parameters, "tensorrt", (False, True)) else titles


def with_options(names: Sequence[str], parameters: Dict[str, Any], threads: int) -> List[Any]:
    """Return the providers as a session takes them. Raises LoadError for options that are invalid.

    threads: what one inference may use
    """
    options = parameters.get("provider_options", {})
    if not isinstance(options, dict) or not all(isinstance(each, dict) for each in options.values()):
        raise LoadError("'parameters.provider_options' in model.toml must have a table for each provider")
    by_name = {_name_of(_title_of(name)): each for name, each in options.items()}
    if OPENVINO in names:
        by_name[OPENVINO] = _reporting_errors(dict({"num_of_threads": threads}, **by_name.get(OPENVINO, {})))
    return [(name, {key: _text(value) for key, value in by_name.get(name, {}).items()}) for name in names]


def _reporting_errors(options: Dict[str, Any]) -> Dict[str, Any]:
    """Return OpenVINO's options with its device AUTO, which selects the CPU, in place of the CPU.

    With one thread, or on one core, the CPU alone drops the errors of a run, and the answer is what lies in memory:
    usually the answer to the request before. AUTO's own precision is BF16 where the CPU has it.
    """
    if not _CPU_ONLY.fullmatch(str(options.get("device_type", "CPU"))):
        return options
    return dict({"precision": "FP32"}, **dict(options, device_type="AUTO:CPU"))


def may_fall_back(parameters: Dict[str, Any]) -> bool:
    return parameter(parameters, "allow_cpu_fallback", (False, True))


def available(requested_names: Sequence[str], built_in: Sequence[str], parameters: Dict[str, Any]) -> List[str]:
    """Return those of the providers that this build of ONNX Runtime has. Raises LoadError if one is missing."""
    missing = [name for name in requested_names if name not in built_in]
    known = [_title_of(name) for name in built_in if name[: -len(_SUFFIX)].lower() in _BY_KEY]
    source = "".join("; " + _SOURCES[_title_of(name)] for name in missing[:1])
    _report(missing, "this build of ONNX Runtime has no %%s, only %s%s" % (" and ".join(known), source), parameters)
    return [name for name in requested_names if name in built_in]


def check(requested_names: Sequence[str], running: Sequence[str], parameters: Dict[str, Any]) -> None:
    """Raise LoadError if a session does not use all of the requested providers."""
    missing = [name for name in requested_names if name not in running]
    _report(
        missing,
        "ONNX Runtime cannot use %s here: there is no device, a library is missing, or its options are wrong (the log "
        "says more)",
        parameters,
    )


def describe(
    device: str, parameters: Dict[str, Any], running: Sequence[str], assigned: Sequence[Tuple[str, str]]
) -> str:
    """Return how many operators each provider runs, which the CPU runs, and which provider is not used at all.

    Returns "" if nothing but the CPU is wanted.

    running: the session's providers. assigned: for each operator, its provider and its type; empty if not known
    """
    wanted = _wanted(parameters) + ([] if device == "cpu" else ["CUDA"])
    unused = [title for title in dict.fromkeys(wanted) if _name_of(title) not in running]
    texts = []
    if unused and device == "cpu" and unused[0] in _CARDS:
        texts.append("%s is not used: the model does not run on a card (device in model.toml)" % unused[0])
    elif unused:
        texts.append("%s cannot be used, as the log says" % unused[0])
    if list(running) != [CPU]:
        texts.append(_shares(running, assigned))
    return "; ".join(texts)


def _shares(running: Sequence[str], assigned: Sequence[Tuple[str, str]]) -> str:
    if not assigned:
        return "ONNX Runtime does not say which operators %s runs" % _title_of(running[0])
    counts = dict.fromkeys(running, 0)
    for name, _ in assigned:
        counts[name] = counts.get(name, 0) + 1
    text = ", ".join("%s runs %d" % (_title_of(name), count) for name, count in counts.items())
    on_cpu = list(dict.fromkeys(operator for name, operator in assigned if name == CPU))
    if on_cpu:
        more = len(on_cpu) - _MAX_OPERATORS
        text += " (%s%s)" % (", ".join(on_cpu[:_MAX_OPERATORS]), ", …" if more > 0 else "")
    return "of %d operator%s, %s" % (len(assigned), "s" * (len(assigned) > 1), text)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _title_of(name: str) -> str:
    """Return a provider's title for "openvino", "OpenVINO" or "OpenVINOExecutionProvider". Raises LoadError."""
    key = name[: -len(_SUFFIX)] if name.endswith(_SUFFIX) else name
    if key.lower() not in _BY_KEY:
        raise LoadError("there is no execution provider '%s'; there are %s" % (name, ", ".join(_TITLES)))
    return _BY_KEY[key.lower()]


def _name_of(title: str) -> str:
    return {"TensorRT": TENSORRT, "XNNPACK": "XnnpackExecutionProvider", "DNNL": "DnnlExecutionProvider"}.get(
        title, title + _SUFFIX
    )


_BY_KEY = {title.lower(): title for title in _TITLES}


def _report(missing: Sequence[str], message: str, parameters: Dict[str, Any]) -> None:
    if not missing:
        return
    reason = message % _title_of(missing[0])
    if not may_fall_back(parameters):
        raise LoadError(reason + "; allow_cpu_fallback = true in [parameters] serves the model without it")
    print(reason + "; continuing without it, as model.toml allows")
