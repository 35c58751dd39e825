"""MXNet models: NAME-symbol.json with NAME-NNNN.params, written by Module or by Gluon's export.

The highest epoch is served; a graph without parameters needs no such file. Inputs are the symbol's arguments without a
parameter, except the labels for training, which are set to zeros. A graph that was exported with numpy's semantics
(`npx.set_np`) runs with them: scalars and sizes of 0 are shapes like others.

The artifact does not contain shapes. They come from model.toml, or from NAME-shapes.json
([{"name": "data", "shape": [100, 1, 28, 28]}]), in which the first number is the training batch by MXNet's convention,
so any batch size is accepted. Output shapes are inferred from the inputs' shapes, and model.toml can set output names.
Each combination of input shapes needs an executor, of which the last few are kept.
"""

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
    Unsupported,
    datatype_of,
    first_line,
)
from runtimes.redaction import redacted

from .analysis.file import label_names
from .analysis.ranges import input_ranges
from .analysis.read import analyze
from .files import has_numpy_shapes, newest_parameters
from .unsafe import BoundsChecker

Shape = Tuple[int, ...]
# Each executor holds the memory of its outputs and intermediate results. Fewer executors save memory, but if requests
# alternate between more shapes than this, each of them has to bind a new one.
_MAX_EXECUTORS = 16
_ANY_SIZE = "its shape depends on values, and MXNet leaves such outputs of a saved graph empty"
_PARAMETER = re.compile(r"_(weight|bias|gamma|beta|parameters)$")


def load(options: LoadOptions) -> Model:
    known_parameters(options.parameters, ())
    if options.device == "cuda" and not mx.context.num_gpus():
        raise LoadError("MXNet found no usable CUDA device")
    context = mx.gpu() if options.device == "cuda" else mx.cpu()
    prefix = options.artifact[: -len("-symbol.json")]
    file = newest_parameters(prefix)
    # Before anything is loaded: what the semantics of numpy have written is read with them only.
    mx.util.set_np_shape(has_numpy_shapes(options.artifact))
    try:
        symbol = mx.sym.load(options.artifact)
        saved = mx.nd.load(file) if file else {}
    except Exception as error:
        raise LoadError("MXNet cannot load this model: %s" % _client_message(error)) from error
    if saved == []:  # of a graph without parameters
        saved = {}
    if not isinstance(saved, dict):
        raise LoadError("the parameter file has arrays without names")
    parameters = {name.split(":", 1)[-1]: array.as_in_context(context) for name, array in saved.items()}
    return MxnetModel(symbol, parameters, context, _declared_shapes(prefix), options)


def _declared_shapes(prefix: str) -> Dict[str, Shape]:
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
        self, symbol: Any, parameters: Dict[str, Any], context: Any, declared: Dict[str, Shape], options: LoadOptions
    ) -> None:
        self.symbol = symbol
        self._context = context
        self._parameters = {name: parameters.get(name) for name in symbol.list_arguments() if name in parameters}
        self._aux = {name: parameters.get(name) for name in symbol.list_auxiliary_states()}
        self.executors = OrderedDict()  # type: OrderedDict
        self._any_size = False  # whether an executor serves one request only
        arguments = [name for name in symbol.list_arguments() if name not in parameters]
        self._labels = [name for name in arguments if name in label_names(symbol.tojson())]
        self._inputs = [name for name in arguments if name not in self._labels]
        attributes = symbol.attr_dict()
        missing = [name for name in arguments if _PARAMETER.search(name) or "__lr_mult__" in attributes.get(name, {})]
        missing += [name for name, array in self._aux.items() if array is None]
        if missing:
            what = "the parameter file lacks" if parameters else "there is no parameter file (NAME-0000.params) with"
            raise LoadError("%s %s" % (what, quoted(missing)))
        self._bounds = BoundsChecker(symbol, context, self._parameters, self._aux)
        self._types = {name: array.dtype for name, array in self._parameters.items()}
        self._names = self._output_names(options)
        self.signatures = {"default": self._signature(declared, options)}
        self._served = [spec.name for spec in self.signatures["default"].outputs]

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        shapes = {name: array.shape for name, array in self.stored().items()}
        return analyze(self.symbol.tojson(), shapes, self.signatures["default"], self._names)

    def input_ranges(self, signature: str) -> Dict[str, InputRange]:
        inputs = self.signatures["default"].inputs
        return input_ranges(self.symbol.tojson(), self.shapes_inside(), [spec.name for spec in inputs])

    def stored(self) -> Dict[str, Any]:
        """Return the arrays of the parameter file that the symbol uses, by name."""
        return dict(self._parameters, **self._aux)

    def shapes_inside(self) -> Dict[str, Optional[Shape]]:
        """Return the shapes of the symbol's arguments and of the outputs of all of its nodes, as far as known."""
        internals = self.symbol.get_internals()
        sizes = self._shapes_of(internals, internals.list_outputs(), self.signatures["default"].inputs)
        sizes.update((name, array.shape) for name, array in self._parameters.items())
        return sizes

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        names = wanted_outputs(outputs, self._served)
        arrays = {spec.name: check_input(spec, inputs) for spec in self.signatures["default"].inputs}
        for name, array in arrays.items():
            if array.dtype == object or (array.dtype.kind == "u" and array.dtype.itemsize > 1):
                raise InvalidInput("input '%s' is %s, which MXNet lacks" % (name, datatype_of(array.dtype)))
        try:
            executor = self._executor(arrays)
            self._bounds.check(arrays)
            for name, array in arrays.items():
                if array.size:
                    executor.arg_dict[name][() if array.ndim == 0 else slice(None)] = array
            results = executor.forward(is_train=False)
            self._check_sizes(names, results, arrays)
            # asnumpy copies: the executor's own memory serves the next request.
            return {name: results[self._names.index(name)].asnumpy() for name in names}
        except (IndexError, ValueError) as error:  # some operators raise these for an invalid value
            raise InvalidInput(_client_message(error)) from error
        except mx.MXNetError as error:
            if re.search(r"out of memory|failed to allocate|bad_alloc", str(error), re.IGNORECASE):
                self.executors.clear()
                raise MemoryError(_client_message(error)) from error
            if "Check failed" not in str(error) or re.search(r"cuda|cudnn|cublas", str(error), re.IGNORECASE):
                raise
            # Shapes and datatypes match, so the cause is a value, such as an index out of bounds.
            raise InvalidInput(_client_message(error)) from error

    def _check_sizes(self, names: Sequence[str], results: Sequence[Any], arrays: Dict[str, np.ndarray]) -> None:
        """Raise Unsupported if an output is empty because MXNet did not know its shape."""
        empty = [name for name in names if 0 in results[self._names.index(name)].shape]
        if not empty or not mx.util.is_np_shape():
            return
        known = {name: array.shape for name, array in self._parameters.items()}
        known.update((name, array.shape) for name, array in arrays.items())
        shapes = dict(zip(self._names, self.symbol.infer_shape_partial(**known)[1]))
        for name in empty:
            if not _complete(shapes[name]):
                raise Unsupported("output '%s' cannot be served: %s" % (name, _ANY_SIZE))

    def _executor(self, arrays: Dict[str, np.ndarray]) -> Any:
        key = tuple((array.shape, array.dtype.char) for array in arrays.values())
        if key in self.executors and not self._any_size:
            self.executors.move_to_end(key)
            return self.executors[key]
        try:
            shapes = self._argument_shapes({name: array.shape for name, array in arrays.items()})
            self.symbol.infer_type(**dict(self._types, **{name: array.dtype for name, array in arrays.items()}))
            self._any_size = self._any_size or self._has_any_size(shapes)
        except mx.MXNetError as error:
            raise InvalidInput(_client_message(error)) from error
        arguments = dict(self._parameters)
        for name in self._inputs + self._labels:
            dtype = arrays[name].dtype if name in arrays else np.float32
            arguments[name] = mx.nd.zeros(shapes[name], ctx=self._context, dtype=dtype)
        executor = self.symbol.bind(self._context, arguments, grad_req="null", aux_states=self._aux)
        self.executors[key] = executor
        if len(self.executors) > _MAX_EXECUTORS:
            self.executors.popitem(last=False)
        return executor

    def _has_any_size(self, shapes: Dict[str, Shape]) -> bool:
        """Return whether the shape of something in the graph depends on values (boolean_mask).

        An executor writes each result into the memory of its first one, whatever its size, and so returns rows of
        other requests, or ends the process.
        """
        internals = self.symbol.get_internals()
        return not all(map(_complete, internals.infer_shape_partial(**shapes)[1]))

    def _argument_shapes(self, inputs: Dict[str, Shape]) -> Dict[str, Shape]:
        """Return the shapes of all arguments. Raises InvalidInput or MXNetError if these inputs do not fit."""
        for name, shape in inputs.items():
            # Without numpy's semantics, a size of 0 means that it is to be inferred.
            if not mx.util.is_np_shape() and (not shape or 0 in shape):
                raise InvalidInput("input '%s' has shape %s, which MXNet does not support" % (name, list(shape)))
        known = {name: array.shape for name, array in self._parameters.items()}
        known.update(inputs)
        shapes, outputs, _ = self.symbol.infer_shape_partial(**known)
        result = dict(zip(self.symbol.list_arguments(), shapes))
        for name in self._labels:
            if not _complete(result[name]):
                result[name] = outputs[0][:1]  # one label per row, as in training
        return result

    def _output_names(self, options: LoadOptions) -> List[str]:
        """Return the declared names if there is one per output, because MXNet's are generated (dense1_fwd_output)."""
        names = self.symbol.list_outputs()  # type: List[str]
        declared = [spec.name for spec in options.outputs]
        return declared if len(declared) == len(names) and not set(declared) <= set(names) else names

    def _signature(self, declared: Dict[str, Shape], options: LoadOptions) -> Signature:
        types = self._inferred_types()
        inputs = tuple(TensorSpec(name, types.get(name, ""), declared.get(name)) for name in self._inputs)
        inputs = declared_inputs(options.inputs, inputs)
        shapes = self._shapes_of(self.symbol, self._names, inputs)
        outputs = tuple(TensorSpec(name, types.get(name, ""), shapes.get(name)) for name in self._names)
        # Labels have no shapes, and what is computed from them may have none either.
        unsized = [
            name for name, shape in shapes.items() if shape is None and mx.util.is_np_shape() and not self._labels
        ]
        if unsized and len(unsized) == len(outputs):
            raise LoadError("output '%s' cannot be served: %s" % (unsized[0], _ANY_SIZE))
        served = declared_outputs(options.outputs, tuple(spec for spec in outputs if spec.name not in unsized))
        return Signature(inputs, served, dict.fromkeys(unsized, _ANY_SIZE))

    def _inferred_types(self) -> Dict[str, str]:
        """Return the datatypes that the parameters imply; "" if an operator such as Embedding accepts several."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about unknown datatypes of inputs, which are "" here
                arguments, outputs, _ = self.symbol.infer_type(**self._types)
        except mx.MXNetError:
            return {}
        names = list(self.symbol.list_arguments()) + list(self._names)
        return {name: _datatype(dtype) for name, dtype in zip(names, (arguments or []) + (outputs or []))}

    def _shapes_of(self, symbol: Any, names: Sequence[str], inputs: Sequence[TensorSpec]) -> Dict[str, Optional[Shape]]:
        """Infer the shapes of a symbol's outputs for two values of the dynamic sizes. Sizes that differ are dynamic.

        names  names for the outputs
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
        return {name: _dynamic_where_different(one, two) for name, one, two in zip(names, *probes)}


def _dynamic_where_different(one: Shape, two: Shape) -> Optional[Shape]:
    if not _complete(one) or len(one) != len(two):
        return None
    return tuple(a if a == b else -1 for a, b in zip(one, two))


def _complete(shape: Optional[Shape]) -> bool:
    """Whether MXNet has inferred all of a shape."""
    if mx.util.is_np_shape():
        return shape is not None and all(size >= 0 for size in shape)
    return bool(shape) and all(size > 0 for size in shape or ())


def _datatype(dtype: Any) -> str:
    try:
        return datatype_of(dtype) if dtype is not None else ""
    except (KeyError, TypeError):
        return ""


def _client_message(error: BaseException) -> str:
    """Return the part of MXNet's message that is useful to clients, without source files, stack and operator names."""
    kinds = r"^(?:MXNetError|IndexError|ValueError|JSONReader): (.*)$"
    lines = re.findall(kinds, str(error), re.MULTILINE) or [first_line(error)]
    line = re.sub(r"^Error in operator \S+: ", "", lines[-1])
    line = re.sub(r"^(\[[\d:]+\] )?(\S+\.(cc|h|cu|cuh):\d+: )?(Check failed: (.*?: :)*.*?: )?", "", line)
    line = re.sub(r" in node \S+|\b\w*Error: ", "", line)
    return redacted(line) or type(error).__name__
