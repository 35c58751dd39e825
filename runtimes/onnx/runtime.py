"""ONNX models, run by ONNX Runtime.

Names, datatypes and shapes come from the artifact; a symbolic dimension is -1. Outputs that are
no tensors (scikit-learn's sequences of maps, say) are refused, the others of the model still work.
ONNX strings are text: BYTES that are not UTF-8 are invalid input.

    [parameters]
    disabled_optimizers = ["Pad_Fusion"]  # ONNX Runtime's graph optimizers to leave out; default: _WRONG_OPTIMIZERS

beside the parameters of `providers.py`.
"""

import re
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from runtimes.checks import (
    declared_inputs,
    declared_outputs,
    is_device_lost,
    known_parameters,
    names_parameter,
    plain,
    wanted_outputs,
)
from runtimes.contract import (
    BatchAnalysis,
    DeviceLost,
    InputRange,
    InvalidInput,
    LoadError,
    LoadOptions,
    Model,
    Signature,
    TensorSpec,
    first_line,
)
from runtimes.redaction import redacted

from . import providers
from .analysis.file import of_bytes, of_file
from .analysis.ranges import input_ranges
from .analysis.read import analyse
from .bound import Run, bound
from .private import private

_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
# What a run reports when a tensor's shape or value does not suit a node deep in the model. ONNX
# Runtime has no kind of its own for that, so FAIL and RUNTIME_EXCEPTION count as the inputs' fault.
_INPUT_ERRORS = (errors.InvalidArgument, errors.Fail, errors.RuntimeException, ValueError)
# Optimizers that change what a model computes; seen up to ONNX Runtime 1.31.1 (`make audit` looks for others).
# Pad_Fusion makes a Pad of zeros part of the pooling after it, whose own padding never wins: with MaxPool, and with
# AveragePool where ceil_mode is set. ConstantSharing makes one of equal constants, and a BatchNormalization in training
# mode writes its running mean and variance over them: its scale and bias then change with each request.
# DoubleQDQPairsRemover drops one of two quantisations in a row, and so its rounding. WeightBiasQuantization quantises
# float weights between quantised values to 8 bits, with one scale for all.
_WRONG_OPTIMIZERS = ("Pad_Fusion", "ConstantSharing", "DoubleQDQPairsRemover", "WeightBiasQuantization")
PARAMETERS = ("disabled_optimizers", *providers.PARAMETERS)
_NO_MEMORY = re.compile(r"allocate memory|bad_alloc|out of memory|BFCArena", re.IGNORECASE)
# Where a message comes from: a path with a function's whole type, or a file's name with a function's.
_FUNCTION = re.compile(r"/\S+\.(cc|cpp|cu|cuh|h):\d+ .*?\([^()]*(\([^()]*\)[^()]*)*\)( const)?( \[with [^\]]*\])? ")
_FUNCTION_NAME = re.compile(r"^\w+\.(cc|cpp|cu|cuh|h):\d+ (operator\(\)|\w+) ")
_DEVICE_ERROR = re.compile(r"\bCU(DA|DNN|BLAS|RAND|FFT)", re.IGNORECASE)


def load(options: LoadOptions) -> Model:
    try:
        with private(options.artifact) as path:
            return served(path, options)
    except OSError as error:
        raise LoadError("the model cannot be read: %s" % (error.strerror or error)) from error


def served(model: Union[str, bytes], options: LoadOptions) -> Model:
    """A file, or an ONNX model's bytes, for runtimes that make one of their own format. Raises LoadError."""
    settings = ort.SessionOptions()
    # Warnings come by the initializer from older models; errors are raised, too, and a trial with invented inputs makes
    # them on purpose.
    settings.log_severity_level = 4
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    known_parameters(options.parameters, PARAMETERS)
    disabled = names_parameter(options.parameters, "disabled_optimizers", _WRONG_OPTIMIZERS)
    wanted = providers.asked(options.device, options.parameters)
    offered = providers.usable(wanted, ort.get_available_providers(), options.parameters)
    if options.device == "cuda":
        ort.preload_dlls()  # CUDA and cuDNN come as wheels, where the dynamic linker does not look
    try:
        session = ort.InferenceSession(model, settings, providers=offered, disabled_optimizers=disabled)
    except Exception as error:  # whatever it is, this file will not load the next time either
        raise LoadError("ONNX Runtime cannot load this model: %s" % _sentence(error)) from error
    providers.check(offered, session.get_providers(), options.parameters)
    if not providers.may_fall_back(options.parameters):
        session.disable_fallback()  # else one failed run puts the session on the CPU for good
    on_device = providers.CUDA in session.get_providers()
    kind = TranslatedModel if isinstance(model, bytes) else OnnxModel
    return kind(session, model, options, bound(session, "cuda") if on_device else session.run)


class OnnxModel(Model):
    """`run` takes the wanted outputs' names and the inputs by name, as the session's own does."""

    def __init__(self, session: ort.InferenceSession, model: Union[str, bytes], options: LoadOptions, run: Run) -> None:
        self._run = run
        inputs, refused_inputs = _specs(session.get_inputs())
        outputs, refused = _specs(session.get_outputs())
        for name, reason in refused_inputs.items():
            raise LoadError("input '%s' cannot be served: %s" % (name, reason))
        if not outputs:
            raise LoadError("none of the model's outputs is a tensor that can be served")
        self._inputs = {spec.name: spec for spec in inputs}
        self._outputs = {spec.name: spec for spec in outputs}
        signature = Signature(
            declared_inputs(options.inputs, inputs), declared_outputs(options.outputs, outputs), refused
        )
        self._all = [spec.name for spec in signature.outputs]
        self.signatures = {"default": signature}
        # Read now: later, another model may lie there, or no file any more.
        self._analysis, self._ranges = _described(model, signature)

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        return self._analysis

    def input_ranges(self, signature: str) -> Dict[str, InputRange]:
        return self._ranges

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        wanted = wanted_outputs(outputs, self._all)
        feed = {name: self._feed(name, array) for name, array in inputs.items()}
        try:
            results = self._run(wanted, feed)
        except InvalidInput:
            raise
        except Exception as error:
            if _NO_MEMORY.search(str(error)):
                raise MemoryError(_sentence(error)) from error
            if is_device_lost(str(error)):
                raise DeviceLost(_sentence(error)) from error
            if not isinstance(error, _INPUT_ERRORS) or _DEVICE_ERROR.search(str(error)):
                raise
            raise InvalidInput(_sentence(error)) from error
        return {name: self._answer(name, result) for name, result in zip(wanted, results)}

    def _feed(self, name: str, array: np.ndarray) -> np.ndarray:
        spec = self._inputs.get(name)
        if spec is None or spec.datatype != "BYTES" or array.dtype != object:
            return array  # ONNX Runtime refuses what does not fit, by name
        # Given bytes, ONNX Runtime would take their repr().
        text = np.empty(array.shape, dtype=object)
        try:
            text.flat = [element.decode() if isinstance(element, bytes) else element for element in array.flat]
        except UnicodeDecodeError:
            raise InvalidInput("input '%s' has a string that is not UTF-8, which ONNX needs" % name) from None
        return text

    def _answer(self, name: str, result: Any) -> np.ndarray:
        array = np.asarray(result)
        if self._outputs[name].datatype != "BYTES":
            return array
        encoded = np.empty(array.shape, dtype=object)
        encoded.flat = [element.encode() for element in array.flat]
        return encoded


class TranslatedModel(OnnxModel):
    """What we wrote ourselves calls alike what is of one size, which exporters often do not mean.

    ONNX Runtime would repeat what is 1 long beside it, and make something of nothing, where the frameworks refuse.
    """

    def __init__(self, session: ort.InferenceSession, model: Union[str, bytes], options: LoadOptions, run: Run) -> None:
        super().__init__(session, model, options, run)
        self._open: Dict[str, List[Tuple[str, int]]] = {}
        for node in session.get_inputs():
            for place, size in enumerate(node.shape):
                if isinstance(size, str):
                    self._open.setdefault(size, []).append((node.name, place))

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        for name, array in inputs.items():
            if not array.size:
                raise InvalidInput("input '%s' has no values in it, of which nothing can be computed" % name)
        for places in self._open.values():
            given = [each for each in places if each[0] in inputs and each[1] < inputs[each[0]].ndim]
            for name, place in given[1:]:
                first, there = given[0]
                size, wanted = inputs[name].shape[place], inputs[first].shape[there]
                if size != wanted:
                    raise InvalidInput(
                        "dimension %d of input '%s' is %d and dimension %d of input '%s' is %d; they must be the same"
                        % (there, first, wanted, place, name, size)
                    )
        return super().infer(inputs, outputs, signature)


def _described(model: Union[str, bytes], signature: Signature) -> Tuple[Optional[BatchAnalysis], Dict[str, InputRange]]:
    """What the graph says about batching, and about the numbers that inputs take."""
    try:
        graph = of_bytes(model) if isinstance(model, bytes) else of_file(model)
        return analyse(graph, signature), input_ranges(graph)
    except Exception as error:  # whatever is wrong with a file that ONNX Runtime reads
        print("the model's graph could not be read: %s" % first_line(error))
        return None, {}


def _specs(nodes: Sequence[Any]) -> Tuple[Tuple[TensorSpec, ...], Dict[str, str]]:
    """The tensors among a session's inputs or outputs, and why the others cannot be served."""
    specs, refused = [], {}
    for node in nodes:
        datatype = _DATATYPES.get(node.type)
        if datatype is None:
            refused[node.name] = "it is %s, which the protocol lacks" % node.type
            continue
        shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
        specs.append(TensorSpec(node.name, datatype, shape))
    return tuple(specs), refused


def _sentence(error: BaseException) -> str:
    """What of ONNX Runtime's message a client can use: no source files, functions, paths or node names."""
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
