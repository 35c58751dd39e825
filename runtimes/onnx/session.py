"""Creates sessions of ONNX Runtime that compute as they do when they serve."""

import re
from typing import Any, Sequence, Union

import onnxruntime as ort

from runtimes.checks import known_parameters, names_parameter, parameter, plain
from runtimes.contract import LoadError, LoadOptions
from runtimes.external_data import is_ort_format
from runtimes.redaction import redacted

from . import providers
from .extensions import register_operators

# Optimizers that change what a model computes, as seen up to ONNX Runtime 1.31.1 (`make audit` searches for others).
# - Pad_Fusion merges a Pad of zeros into the pooling after it, whose own padding is ignored instead of being zeros.
#   That is wrong for MaxPool, and for AveragePool with ceil_mode.
# - ConstantSharing merges equal constants. A BatchNormalization in training mode overwrites its running mean and
#   variance, so if they are shared with its scale and bias, these change with each request.
# - DoubleQDQPairsRemover removes one of two consecutive quantizations, and with it its rounding.
# - WeightBiasQuantization quantizes float weights between quantized values to 8 bits, with one scale for all.
_WRONG_OPTIMIZERS = ("Pad_Fusion", "ConstantSharing", "DoubleQDQPairsRemover", "WeightBiasQuantization")
PARAMETERS = ("disabled_optimizers", "allow_spinning", *providers.PARAMETERS)
_EXTENSIONS = re.compile(r"ai\.onnx\.contrib|com\.microsoft\.extensions")
_NEEDS_EXTENSIONS = '; extras = ["extensions"] in model.toml adds the operators of onnxruntime-extensions'
# The origin of a message: a path and the complete type of a function, or the names of a file and a function.
_FUNCTION = re.compile(r"/\S+\.(cc|cpp|cu|cuh|h):\d+ .*?\([^()]*(\([^()]*\)[^()]*)*\)( const)?( \[with [^\]]*\])? ")
_FUNCTION_NAME = re.compile(r"^\w+\.(cc|cpp|cu|cuh|h):\d+ (operator\(\)|\w+) ")


def new_session(model: Union[str, bytes], options: LoadOptions, settings: ort.SessionOptions) -> ort.InferenceSession:
    """Create a session that computes as it does when it serves, with additional settings. Raises LoadError."""
    # Log nothing but fatal errors. Older models cause a warning for each initializer. Errors are also raised, and a
    # trial with synthetic inputs provokes them.
    settings.log_severity_level = 4
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    known_parameters(options.parameters, PARAMETERS)
    # Threads that spin between two operators, and for a while after a run, take the cores of fronts and other workers.
    allow_spinning = parameter(options.parameters, "allow_spinning", (False, True))
    settings.add_session_config_entry("session.intra_op.allow_spinning", "1" if allow_spinning else "0")
    if isinstance(model, str):  # whatever the file is called
        settings.add_session_config_entry("session.load_model_format", "ORT" if is_ort_format(model) else "ONNX")
    register_operators(settings)
    disabled = names_parameter(options.parameters, "disabled_optimizers", _WRONG_OPTIMIZERS)
    requested = providers.requested(options.device, options.parameters)
    offered = providers.available(requested, ort.get_available_providers(), options.parameters)
    if offered != [providers.CPU]:
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if options.device == "cuda":
        ort.preload_dlls()  # CUDA and cuDNN are in wheels, where the dynamic linker does not search
    may_fall_back = providers.may_fall_back(options.parameters)
    try:
        session = _session(
            model, settings, providers.with_options(offered, options.parameters, options.threads), disabled
        )
    except LoadError as error:
        if offered == [providers.CPU] or not may_fall_back:
            raise
        print("%s; trying the CPU alone, as model.toml allows" % error)
        offered = [providers.CPU]
        session = _session(model, settings, offered, disabled)
    providers.check(offered, session.get_providers(), options.parameters)
    if not may_fall_back:
        session.disable_fallback()  # otherwise, one failed run moves the session to the CPU for good
    return session


def _session(
    model: Union[str, bytes], settings: ort.SessionOptions, chosen: Sequence[Any], disabled: Sequence[str]
) -> ort.InferenceSession:
    """Raises LoadError."""
    try:
        return ort.InferenceSession(model, settings, providers=chosen, disabled_optimizers=disabled)
    except Exception as error:  # whatever the reason, retrying would not help
        hint = _NEEDS_EXTENSIONS if _EXTENSIONS.search(str(error)) else ""
        raise LoadError("ONNX Runtime cannot load this model: %s" % sentence(error) + hint) from error


def execution(session: ort.InferenceSession, options: LoadOptions) -> str:
    """Return which provider runs how many operators, for the configuration, and write it to the log."""
    running, assigned = session.get_providers(), []
    if running != [providers.CPU]:
        try:
            subgraphs = session.get_provider_graph_assignment_info()
            assigned = [(each.ep_name, node.op_type) for each in subgraphs for node in each.get_nodes()]
        except (AttributeError, RuntimeError):  # a build of ONNX Runtime that does not record it
            pass
    text = providers.describe(options.device, options.parameters, running, assigned)
    if text:
        print(text)
    return text


def sentence(error: BaseException) -> str:
    """Return ONNX Runtime's message without source files, functions and paths, for a client."""
    text = " ".join(str(error).split())
    text = text.rsplit("Status Message: ", 1)[-1]
    text = re.sub(r"^Error in execution: ", "", text)
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^Load model from .*? failed: ?", "", text)
    text = _FUNCTION.sub("", text)
    text = text.rsplit("[ONNXRuntimeError] : ", 1)[-1]
    text = re.sub(r"^\d+ : \w+ : ", "", text)
    text = _FUNCTION_NAME.sub("", text)
    text = re.sub(r"^.* was false\. ", "", text)
    text = re.sub(r" Please fix either the inputs/outputs or the model\.$", "", text)
    return plain(redacted(text)) or type(error).__name__
