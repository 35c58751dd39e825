"""Runs ONNX models, also in ONNX Runtime's own format (.ort), with ONNX Runtime.

Names, datatypes and shapes come from the artifact; a symbolic dimension is -1. Outputs that are not tensors, such as
scikit-learn's sequences of maps, are in answers in JSON only. Initializers that the graph lists as inputs, and inputs
of type optional, may be left out. ONNX strings are text, so BYTES that are not UTF-8 are invalid input.

    [parameters]
    disabled_optimizers = ["Pad_Fusion"]  # graph optimizers of ONNX Runtime to disable; session.py has the default

There are also the parameters of `providers.py`.
"""

import os
import re
from typing import Any, Collection, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from runtimes.checks import (
    declared_inputs,
    declared_outputs,
    is_device_lost,
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
from runtimes.dataflow.graph import Model as Graph

from . import providers
from .analysis.ranges import input_ranges
from .analysis.read import analyze
from .direct import Run, direct_run
from .io_binding import bind_to_device
from .json_texts import is_written, texts
from .ort_format import read_model
from .private import private_copy
from .renewal import Renewed, renewed
from .session import PARAMETERS as PARAMETERS
from .session import execution, new_session, sentence
from .small_types import SMALL_TYPES, run_with_small_types

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
    **SMALL_TYPES,
}
# Errors of a run if the shape or a value of a tensor is wrong for a node inside the model. ONNX Runtime has no separate
# kind of error for that, so FAIL and RUNTIME_EXCEPTION count as the fault of the inputs.
_INPUT_ERRORS = (errors.InvalidArgument, errors.Fail, errors.RuntimeException, ValueError)
# An ONNX file with y = Identity(x), of FP32 [n, 1].
_SMALLEST = (
    b'\x08\x08:A\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x14\n\x01x\x12\x0f\n\r\x08\x01\x12\t\n\x03\x12\x01n\n\x02\x08\x01'
    b"b\x14\n\x01y\x12\x0f\n\r\x08\x01\x12\t\n\x03\x12\x01n\n\x02\x08\x01B\x04\n\x00\x10\r"
)
_JSON_ONLY = "it is %s, which no tensor can hold; POST /predict has it in an answer in JSON"
_NO_MEMORY = re.compile(r"allocate memory|bad_alloc|out of memory|BFCArena", re.IGNORECASE)
_DEVICE_ERROR = re.compile(r"\bCU(DA|DNN|BLAS|RAND|FFT)", re.IGNORECASE)


def before_forks() -> None:
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1  # no threads
    ort.InferenceSession(_SMALLEST, settings, providers=["CPUExecutionProvider"])


def rehearsal(folder: str) -> str:
    path = os.path.join(folder, "model.onnx")
    with open(path, "wb") as file:
        file.write(_SMALLEST)
    return path


def load(options: LoadOptions) -> "OnnxModel":
    try:
        with private_copy(options.artifact) as path:
            return served(path, options)
    except OSError as error:
        raise LoadError("the model cannot be read: %s" % (error.strerror or error)) from error


def served(model: Union[str, bytes], options: LoadOptions) -> "OnnxModel":
    """Load a model from a file, or from bytes for runtimes that translate their own format. Raises LoadError."""
    return in_session(new_session(model, options, ort.SessionOptions()), model, options)


def in_session(session: ort.InferenceSession, model: Union[str, bytes], options: LoadOptions) -> "OnnxModel":
    kind = TranslatedModel if isinstance(model, bytes) else OnnxModel
    run = run_of(session)
    if providers.OPENVINO in session.get_providers():
        run = renewed(run, model, options, lambda source: run_of(new_session(source, options, ort.SessionOptions())))
    return kind(session, model, options, run)


def run_of(session: ort.InferenceSession) -> Run:
    on_device = providers.CUDA in session.get_providers()
    run = bind_to_device(session, "cuda") if on_device else direct_run(session)
    return run_with_small_types(session, run)


class OnnxModel(Model):
    """A model in an ONNX Runtime session."""

    def __init__(self, session: ort.InferenceSession, model: Union[str, bytes], options: LoadOptions, run: Run) -> None:
        self._run, self._options = run, ort.RunOptions()
        self.options = options  # with which a profile loads the artifact again
        graph = _graph_of(model)  # read now, because the file may be replaced or deleted later
        unranked = _unranked(graph)
        inputs, refused_inputs = _specs([node for node in session.get_inputs() if not _is_optional(node)], unranked)
        outputs, refused = _specs(session.get_outputs(), unranked)
        for name, reason in refused_inputs.items():
            raise LoadError("input '%s' cannot be served: %s" % (name, reason))
        is_small = any(spec.datatype in SMALL_TYPES.values() for spec in inputs + outputs)  # runs without sequences
        self._json = {node.name: node.type for node in session.get_outputs() if is_written(node.type) and not is_small}
        refused.update((name, _JSON_ONLY % kind) for name, kind in self._json.items())
        if not outputs and not self._json:
            raise LoadError(
                "none of the model's outputs can be served: %s" % next(iter(refused.values()), "it has none")
            )
        unbatched = _unbatched(session)
        declared = {spec.name: spec for spec in options.inputs}
        unbatched = declared_inputs([declared.pop(spec.name, spec) for spec in unbatched], unbatched)
        self._inputs = {spec.name: spec for spec in inputs}
        self._texts = {spec.name for spec in inputs + unbatched + outputs if spec.datatype == "BYTES"}
        signature = Signature(
            declared_inputs(list(declared.values()), inputs),
            declared_outputs(options.outputs, outputs),
            refused,
            unbatched=unbatched,
            json=tuple(self._json),
        )
        self._all = [spec.name for spec in signature.outputs] or list(self._json)
        self._named = [*(spec.name for spec in signature.outputs), *self._json]
        self._run_unbound = run if isinstance(run, Renewed) else direct_run(session)
        self.signatures = {"default": signature}
        self.execution = execution(session, options)
        self._analysis, self._ranges = _read(graph, signature)

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        return self._analysis

    def input_ranges(self, signature: str) -> Dict[str, InputRange]:
        return self._ranges

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        names = wanted_outputs(outputs, self._named) if outputs else self._all
        if self._texts:
            inputs = {name: self._to_text(name, array) for name, array in inputs.items()}
        as_json = bool(self._json) and not self._json.keys().isdisjoint(names)
        run = self._run_unbound if as_json else self._run  # only tensors can be bound
        try:
            results = run(names, inputs, self._options)
        except InvalidInput:
            raise
        except Exception as error:
            for name in self._inputs:
                if name not in inputs:
                    raise InvalidInput("input '%s' is missing" % name) from error
            if _NO_MEMORY.search(str(error)):
                raise MemoryError(sentence(error)) from error
            if is_device_lost(str(error)):
                raise DeviceLost(sentence(error)) from error
            if not isinstance(error, _INPUT_ERRORS) or _DEVICE_ERROR.search(str(error)):
                raise
            raise InvalidInput(sentence(error)) from error
        if as_json:
            pairs = zip(names, results)
            results = [texts(each, self._json[name]) if name in self._json else each for name, each in pairs]
        if self._texts:
            results = [self._to_bytes(name, result) for name, result in zip(names, results)]
        return dict(zip(names, results))

    def _to_text(self, name: str, array: np.ndarray) -> np.ndarray:
        if name not in self._texts or array.dtype != object:
            return array  # ONNX Runtime itself refuses invalid inputs, and names them
        # ONNX Runtime would use the repr() of bytes.
        text = np.empty(array.shape, dtype=object)
        try:
            text.flat = [element.decode() if isinstance(element, bytes) else element for element in array.flat]
        except UnicodeDecodeError:
            raise InvalidInput("input '%s' has a string that is not UTF-8, which ONNX needs" % name) from None
        return text

    def _to_bytes(self, name: str, array: np.ndarray) -> np.ndarray:
        if name not in self._texts:
            return array
        encoded = np.empty(array.shape, dtype=object)
        encoded.flat = [element.encode() for element in array.flat]
        return encoded


class TranslatedModel(OnnxModel):
    """A model that one of our runtimes has translated, with stricter checks of its inputs.

    In a translated model, dimensions with the same symbol have the same size, so inputs that disagree are refused. This
    is not checked for other ONNX models, because exporters often use one symbol for different sizes. ONNX Runtime would
    broadcast a size of 1 and accept empty tensors, where the original frameworks raise an error.
    """

    def __init__(self, session: ort.InferenceSession, model: Union[str, bytes], options: LoadOptions, run: Run) -> None:
        super().__init__(session, model, options, run)
        self._axes_of_symbol: Dict[str, List[Tuple[str, int]]] = {}
        for node in session.get_inputs():
            for axis, size in enumerate(node.shape):
                if isinstance(size, str):
                    self._axes_of_symbol.setdefault(size, []).append((node.name, axis))

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        for name, array in inputs.items():
            if not array.size:
                raise InvalidInput("input '%s' has no values" % name)
        for axes in self._axes_of_symbol.values():
            present = [(name, axis) for name, axis in axes if name in inputs and axis < inputs[name].ndim]
            for name, axis in present[1:]:
                first, first_axis = present[0]
                size, expected = inputs[name].shape[axis], inputs[first].shape[first_axis]
                if size != expected:
                    raise InvalidInput(
                        "dimension %d of input '%s' is %d and dimension %d of input '%s' is %d; they must be the same"
                        % (first_axis, first, expected, axis, name, size)
                    )
        return super().infer(inputs, outputs, signature)


def _graph_of(model: Union[str, bytes]) -> Optional[Graph]:
    """Return the graph in the file; None if it cannot be read. ONNX Runtime decides whether the file is valid."""
    try:
        return read_model(model)
    except Exception as error:
        print("the model's graph could not be read: %s" % first_line(error))
        return None


def _unranked(model: Optional[Graph]) -> Collection[str]:
    """Return the inputs and outputs of unknown rank, whose shape is that of a scalar for ONNX Runtime."""
    if model is None:
        return ()
    return {name for name, sizes in model.graph.inputs if sizes is None}.union(model.graph.unranked)


def _read(model: Optional[Graph], signature: Signature) -> Tuple[Optional[BatchAnalysis], Dict[str, InputRange]]:
    """Return what the graph shows about batching and about the ranges of the inputs."""
    if model is None:
        return None, {}
    try:
        return analyze(model, signature), input_ranges(model)
    except Exception as error:  # an unreadable graph proves nothing
        print("the model's graph could not be read: %s" % first_line(error))
        return None, {}


def _is_optional(node: Any) -> bool:
    return node.type.startswith("optional(")


def _unbatched(session: ort.InferenceSession) -> Tuple[TensorSpec, ...]:
    """Return the initializers that a request may replace, and the inputs that it may leave out, if they are tensors."""
    optional = [node for node in session.get_inputs() if _is_optional(node)]
    kinds = [(node, node.type) for node in session.get_overridable_initializers()]
    kinds += [(node, node.type[len("optional(") : -1]) for node in optional]
    known = _DATATYPES.keys() - SMALL_TYPES.keys()  # which only the inputs and outputs of the graph may have
    return tuple(TensorSpec(node.name, _DATATYPES[kind], _shape(node)) for node, kind in kinds if kind in known)


def _specs(nodes: Sequence[Any], unranked: Collection[str]) -> Tuple[Tuple[TensorSpec, ...], Dict[str, str]]:
    """Return the specs of a session's tensors, and the reasons why its other inputs or outputs cannot be served."""
    specs, refused = [], {}
    for node in nodes:
        datatype = _DATATYPES.get(node.type)
        if datatype is None:
            refused[node.name] = "it is %s, which the protocol lacks" % node.type
            continue
        shape = None if node.name in unranked and not node.shape else _shape(node)
        specs.append(TensorSpec(node.name, datatype, shape))
    return tuple(specs), refused


def _shape(node: Any) -> Tuple[int, ...]:
    return tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
