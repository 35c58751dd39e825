"""MXNet models: NAME-symbol.json beside NAME-NNNN.params, written by Module or by Gluon's export.

The highest epoch is served. Inputs are the symbol's arguments that have no parameter, less the
labels of training (NAME_label), which get zeros. The artifact tells no shapes. They come from
model.toml, or from NAME-shapes.json ([{"name": "data", "shape": [100, 1, 28, 28]}]) where the
first number is the training batch by MXNet's own convention, so any size is taken there. Output
shapes are inferred from the inputs'; output names can be given in model.toml. An executor is bound
per input shape, and the last few are kept.
"""

import glob
import json
import os
import re
import warnings
from collections import OrderedDict
from typing import Any, Dict, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from runtimes.checks import (
    check_input,
    declared_inputs,
    declared_outputs,
    known_parameters,
    quoted,
    wanted_outputs,
)
from runtimes.contract import (
    BatchAnalysis,
    InputRange,
    InvalidInput,
    LoadError,
    LoadOptions,
    Model,
    Signature,
    TensorSpec,
    datatype_of,
    first_line,
)
from runtimes.redaction import redacted

from .analysis.ranges import input_ranges
from .analysis.read import analyze
from .unsafe import Unsafe

Shape = Tuple[int, ...]
_EXECUTORS = 16  # each holds the memory of its outputs and intermediates
_PARAMETER = re.compile(r"_(weight|bias|gamma|beta|parameters)$")


def load(options: LoadOptions) -> Model:
    known_parameters(options.parameters, ())
    if options.device == "cuda" and not mx.context.num_gpus():
        raise LoadError("MXNet found no usable CUDA device")
    context = mx.gpu() if options.device == "cuda" else mx.cpu()
    prefix = options.artifact[: -len("-symbol.json")]
    files = glob.glob(glob.escape(prefix) + "-[0-9][0-9][0-9][0-9].params")
    if not files:
        raise LoadError("there is no parameter file (NAME-0000.params) beside the symbol")
    try:
        symbol = mx.sym.load(options.artifact)
        saved = mx.nd.load(max(files))
    except Exception as error:
        raise LoadError("MXNet cannot load this model: %s" % _sentence(error)) from error
    if not isinstance(saved, dict):
        raise LoadError("the parameter file holds arrays without names")
    parameters = {name.split(":", 1)[-1]: array.as_in_context(context) for name, array in saved.items()}
    return MxnetModel(symbol, parameters, context, _told_shapes(prefix), options)


def _told_shapes(prefix: str) -> Dict[str, Shape]:
    path = prefix + "-shapes.json"
    if not os.path.exists(path):
        return {}
    try:
        with open(path) as file:
            return {item["name"]: (-1,) + tuple(int(size) for size in item["shape"][1:]) for item in json.load(file)}
    except (ValueError, KeyError, TypeError) as error:
        raise LoadError("the model's shapes.json cannot be read: %s" % first_line(error)) from error


class MxnetModel(Model):
    def __init__(
        self, symbol: Any, parameters: Dict[str, Any], context: Any, told: Dict[str, Shape], options: LoadOptions
    ) -> None:
        self._symbol = symbol
        self._context = context
        self._parameters = {name: parameters.get(name) for name in symbol.list_arguments() if name in parameters}
        self._aux = {name: parameters.get(name) for name in symbol.list_auxiliary_states()}
        self._executors = OrderedDict()  # type: OrderedDict
        given = [name for name in symbol.list_arguments() if name not in parameters]
        self._labels = [name for name in given if name.endswith("_label")]
        self._inputs = [name for name in given if name not in self._labels]
        lost = [name for name in given if _PARAMETER.search(name)] + [n for n, a in self._aux.items() if a is None]
        if lost:
            raise LoadError("the parameter file lacks %s" % quoted(lost))
        self._unsafe = Unsafe(symbol, context, self._parameters, self._aux)
        self._types = {name: array.dtype for name, array in self._parameters.items()}
        self._names = self._output_names(options)
        self.signatures = {"default": self._signature(told, options)}
        self._served = [spec.name for spec in self.signatures["default"].outputs]

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        arrays = dict(self._parameters, **self._aux)
        shapes = {name: array.shape for name, array in arrays.items()}
        return analyze(self._symbol.tojson(), shapes, self.signatures["default"], self._names)

    def input_ranges(self, signature: str) -> Dict[str, InputRange]:
        inputs, internals = self.signatures["default"].inputs, self._symbol.get_internals()
        sizes = self._shapes_of(internals, internals.list_outputs(), inputs)
        sizes.update((name, array.shape) for name, array in self._parameters.items())
        return input_ranges(self._symbol.tojson(), sizes, [spec.name for spec in inputs])

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        wanted = wanted_outputs(outputs, self._served)
        arrays = {spec.name: check_input(spec, inputs) for spec in self.signatures["default"].inputs}
        for name, array in arrays.items():
            if array.dtype == object or (array.dtype.kind == "u" and array.dtype.itemsize > 1):
                raise InvalidInput("input '%s' is %s, which MXNet lacks" % (name, datatype_of(array.dtype)))
        try:
            executor = self._executor(arrays)
            self._unsafe.check(arrays)
            for name, array in arrays.items():
                executor.arg_dict[name][:] = array
            results = executor.forward(is_train=False)
            # asnumpy copies: the executor's own memory serves the next request.
            return {name: results[self._names.index(name)].asnumpy() for name in wanted}
        except (IndexError, ValueError) as error:  # what some of its operators raise of a value
            raise InvalidInput(_sentence(error)) from error
        except mx.MXNetError as error:
            if re.search(r"out of memory|failed to allocate|bad_alloc", str(error), re.IGNORECASE):
                self._executors.clear()
                raise MemoryError(_sentence(error)) from error
            if "Check failed" not in str(error) or re.search(r"cuda|cudnn|cublas", str(error), re.IGNORECASE):
                raise
            # Shapes and datatypes fit, so this is a value: an index out of bounds, say.
            raise InvalidInput(_sentence(error)) from error

    def _executor(self, arrays: Dict[str, np.ndarray]) -> Any:
        key = tuple((array.shape, array.dtype.char) for array in arrays.values())
        if key in self._executors:
            self._executors.move_to_end(key)
            return self._executors[key]
        try:
            shapes = self._argument_shapes({name: array.shape for name, array in arrays.items()})
            self._symbol.infer_type(**dict(self._types, **{name: array.dtype for name, array in arrays.items()}))
        except mx.MXNetError as error:
            raise InvalidInput(_sentence(error)) from error
        arguments = dict(self._parameters)
        for name in self._inputs + self._labels:
            dtype = arrays[name].dtype if name in arrays else np.float32
            arguments[name] = mx.nd.zeros(shapes[name], ctx=self._context, dtype=dtype)
        executor = self._symbol.bind(self._context, arguments, grad_req="null", aux_states=self._aux)
        self._executors[key] = executor
        if len(self._executors) > _EXECUTORS:
            self._executors.popitem(last=False)
        return executor

    def _argument_shapes(self, given: Dict[str, Shape]) -> Dict[str, Shape]:
        """The shapes of all arguments. Raises InvalidInput or MXNetError when these inputs do not fit."""
        for name, shape in given.items():
            if not shape or 0 in shape:  # to MXNet a size of 0 is one to be inferred
                raise InvalidInput("input '%s' has shape %s, which MXNet cannot take" % (name, list(shape)))
        known = {name: array.shape for name, array in self._parameters.items()}
        known.update(given)
        shapes, outputs, _ = self._symbol.infer_shape_partial(**known)
        result = dict(zip(self._symbol.list_arguments(), shapes))
        for name in self._labels:
            if not _complete(result[name]):
                result[name] = outputs[0][:1]  # one label per row: what training gave
        return result

    def _output_names(self, options: LoadOptions) -> List[str]:
        """MXNet makes names up (hybridsequential0_dense1_fwd_output): as many declared ones replace them, in order."""
        names = self._symbol.list_outputs()  # type: List[str]
        declared = [spec.name for spec in options.outputs]
        return declared if len(declared) == len(names) and not set(declared) <= set(names) else names

    def _signature(self, told: Dict[str, Shape], options: LoadOptions) -> Signature:
        types = self._inferred_types()
        inputs = tuple(TensorSpec(name, types.get(name, ""), told.get(name)) for name in self._inputs)
        inputs = declared_inputs(options.inputs, inputs)
        shapes = self._shapes_of(self._symbol, self._names, inputs)
        outputs = tuple(TensorSpec(name, types.get(name, ""), shapes.get(name)) for name in self._names)
        return Signature(inputs, declared_outputs(options.outputs, outputs))

    def _inferred_types(self) -> Dict[str, str]:
        """Datatypes that the parameters imply; "" where an operator leaves it open (Embedding, say)."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that an input's type is open is no news: "" says so
                arguments, outputs, _ = self._symbol.infer_type(**self._types)
        except mx.MXNetError:
            return {}
        names = list(self._symbol.list_arguments()) + list(self._names)
        return {name: _datatype(dtype) for name, dtype in zip(names, (arguments or []) + (outputs or []))}

    def _shapes_of(self, symbol: Any, names: Sequence[str], inputs: Sequence[TensorSpec]) -> Dict[str, Optional[Shape]]:
        """Of a symbol's outputs: inferred for two sizes of what is open in the inputs; what differs is open there too.

        names: what to call them
        """
        if not inputs or any(spec.shape is None for spec in inputs):
            return {}
        probes = []
        for size in (2, 3):
            sized = {spec.name: tuple(size if s == -1 else s for s in spec.shape or ()) for spec in inputs}
            known = {name: array.shape for name, array in self._parameters.items()}
            try:
                probes.append(symbol.infer_shape_partial(**dict(known, **sized))[1])
            except mx.MXNetError:
                return {}
        return {name: _open_where_different(one, two) for name, one, two in zip(names, *probes)}


def _open_where_different(one: Shape, two: Shape) -> Optional[Shape]:
    if not _complete(one) or len(one) != len(two):
        return None
    return tuple(a if a == b else -1 for a, b in zip(one, two))


def _complete(shape: Shape) -> bool:
    return bool(shape) and all(size > 0 for size in shape)


def _datatype(dtype: Any) -> str:
    try:
        return datatype_of(dtype) if dtype is not None else ""
    except (KeyError, TypeError):
        return ""


def _sentence(error: BaseException) -> str:
    """What of MXNet's message a client can use: no source files, stack or operator names."""
    lines = re.findall(r"^(?:MXNetError|IndexError|ValueError): (.*)$", str(error), re.MULTILINE) or [first_line(error)]
    line = re.sub(r"^Error in operator \S+: ", "", lines[-1])
    line = re.sub(r"^(\[[\d:]+\] )?(\S+\.(cc|h|cu|cuh):\d+: )?(Check failed: .*?: )?", "", line)
    line = re.sub(r" in node \S+", "", line)
    return redacted(line) or type(error).__name__
