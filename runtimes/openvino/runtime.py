"""Models that OpenVINO runs: its own IR, PaddlePaddle's, and those of other frameworks that ask for it by name.

Names, datatypes and shapes come from the model. Sizes that it leaves open are dynamic. OpenVINO computes integers in 32
bits and FP64 in FP32, so inputs outside of these ranges are refused. The state that a model keeps between runs
(ReadValue, Assign) is reset before each run, because it belongs to another request.
"""

import warnings
from functools import lru_cache
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import openvino as ov

from runtimes.checks import check_input, declared_inputs, declared_outputs, known_parameters, quoted, wanted_outputs
from runtimes.contract import BatchAnalysis, InvalidInput, LoadError, LoadOptions, Model, Signature, TensorSpec

from .devices import PARAMETERS, chosen_device, compile_properties
from .graph_names import output_names
from .guards import guard
from .lite_names import signature_names
from .ports import Port, ports, renamed
from .reading import client_message, read_model
from .rows import mixing
from .tensors import to_array, to_tensor

# A sentence for those who call it from Python: each result is copied here in any case.
warnings.filterwarnings("ignore", "Result of a string type will be copied")

_RANDOM = ("RandomUniform", "Multinomial")
_COUNTING = ("NonZero", "NonMaxSuppression", "Unique", "MatrixNms", "MulticlassNms", "DetectionOutput")


def load(options: LoadOptions) -> "OpenVinoModel":
    known_parameters(options.parameters, PARAMETERS)
    core = ov.Core()
    # It would map the file, and overwriting it would change a running model.
    core.set_property({"ENABLE_MMAP": False})
    device = chosen_device(core, options)
    properties = compile_properties(device, options)
    model = read_model(core, options.artifact)
    names = _served_names(options.artifact, model)
    inputs = renamed(options.inputs, ports(model.inputs, "INPUT__%d", False, names))
    outputs = renamed(options.outputs, ports(model.outputs, "OUTPUT__%d", True, names))
    try:
        inputs = _ranked(model, inputs, options.inputs)
        guarded = guard(model) if device.startswith("CPU") else ""
        return OpenVinoModel(
            model, lambda: core.compile_model(model, device, properties), inputs, outputs, guarded, options
        )
    except (LoadError, MemoryError):
        raise
    except Exception as error:
        raise LoadError("OpenVINO cannot compile this model: %s" % client_message(error)) from error


def _served_names(artifact: str, model: Any) -> Dict[str, str]:
    """Return the names that other runtimes use for tensors that OpenVINO names differently, by OpenVINO's."""
    if artifact.endswith(".tflite"):
        return signature_names(artifact)
    if artifact.endswith((".pb", ".graphdef")):  # the first output of a node has the node's name
        found = {name for port in (*model.inputs, *model.outputs) for name in port.names}
        return {**{name: name[:-2] for name in found if name[-2:] == ":0"}, **output_names(artifact)}
    return {}


def _ranked(model: Any, found: List[Port], declared: Sequence[TensorSpec]) -> List[Port]:
    """Set the ranks that the model leaves open to those in model.toml, because OpenVINO needs them."""
    shapes = {spec.name: spec.shape for spec in declared}
    unknown = [index for index, port in enumerate(found) if port.spec.shape is None]
    missing = [found[index].spec.name for index in unknown if shapes.get(found[index].spec.name) is None]
    if missing:
        raise LoadError("OpenVINO needs to know the number of dimensions of %s: declare the shapes" % quoted(missing))
    if unknown:
        model.reshape({index: ov.PartialShape(list(shapes[found[index].spec.name] or ())) for index in unknown})
    return [
        port._replace(spec=port.spec._replace(shape=shapes[port.spec.name])) if index in unknown else port
        for index, port in enumerate(found)
    ]


class OpenVinoModel(Model):
    def __init__(
        self,
        model: Any,
        compile_model: Callable[[], Any],
        inputs: List[Port],
        outputs: List[Port],
        guarded: str,
        options: LoadOptions,
    ) -> None:
        self.model, self.options = model, options
        self._compile, self.compiled = compile_model, compile_model()
        self._guarded = guarded
        self._ports = inputs, outputs
        self._request = self.compiled.create_infer_request()
        self.keeps_state = bool(self._request.query_state())
        for port in inputs:
            if port.problem:
                raise LoadError("the input '%s' cannot be served: %s" % (port.spec.name, port.problem))
        self.bounds = [port.partial_shape for port in model.inputs]
        self._positions = {port.spec.name: index for index, port in enumerate(outputs)}
        served = [port.spec for port in outputs if not port.problem]
        if outputs and not served:
            raise LoadError("no output can be served: %s" % outputs[0].problem)
        signature = Signature(
            declared_inputs(options.inputs, tuple(port.spec for port in inputs)),
            declared_outputs(options.outputs, tuple(served)),
            {port.spec.name: port.problem for port in outputs if port.problem},
        )
        self.signatures = {"default": signature}
        if any(not shape.is_static for shape in self.bounds):
            self._shapes: Optional[Any] = model.clone()
            self._check_shapes = lru_cache(maxsize=1024)(self._fit)
        else:
            self._shapes = None

    def in_another(self, compiled: Any) -> "OpenVinoModel":
        """Return the same model, run by another compiled one."""
        return OpenVinoModel(self.model, lambda: compiled, *self._ports, self._guarded, self.options)

    def counters(self) -> List[Tuple[str, str, float]]:
        """Return the name, the kind and the average microseconds of each operator, if they are counted."""
        counted = self._request.get_profiling_info()
        return [
            (each.node_name, each.node_type, each.real_time.total_seconds() * 1e6)
            for each in counted
            if each.status == ov.ProfilingInfo.Status.EXECUTED
        ]

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        served = [self._positions[spec.name] for spec in self.signatures["default"].outputs]
        counting = ("%s returns as many rows as values decide" % name for name in self._named(_COUNTING))
        return BatchAnalysis(
            mixes=(*counting, *mixing(self.model, served)),
            unknown=("the graph is followed only to find operators that mix rows",),
            max_rows=self._max_rows(),
            alone="the model keeps state between the steps of a request" if self.keeps_state else "",
            random=next(("%s is random" % name for name in self._named(_RANDOM)), ""),
        )

    def _named(self, kinds: Sequence[str]) -> Iterator[str]:
        """Yield the operators of these kinds, as the log names them. The bodies of branches and loops are left out."""
        for node in self.model.get_ops():
            if node.get_type_name() in kinds:
                yield "%s '%s'" % (node.get_type_name(), node.get_friendly_name()[:60])

    def _max_rows(self) -> Optional[int]:
        firsts = [shape[0] for shape in self.bounds if not shape.rank.is_dynamic and len(shape)]
        limits = [size.get_max_length() for size in firsts if size.is_dynamic and size.get_max_length() > 0]
        return min(limits) if limits else None

    def _fit(self, shapes: Tuple[Tuple[int, ...], ...]) -> None:
        """Raise InvalidInput if the model does not accept inputs of these shapes, which OpenVINO itself may not check.

        Its kernels read beyond a matrix that has too few columns.
        """
        assert self._shapes is not None
        for spec, bound, shape in zip(self.signatures["default"].inputs, self.bounds, shapes):
            if not bound.compatible(ov.PartialShape(list(shape))):
                raise InvalidInput(
                    "input '%s' has shape %s, but the model accepts %s" % (spec.name, list(shape), bound)
                )
        try:
            self._shapes.reshape({index: ov.PartialShape(list(shape)) for index, shape in enumerate(shapes)})
        except RuntimeError as error:
            raise InvalidInput(client_message(error)) from error

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        if signature not in ("", "default"):
            raise InvalidInput("the model has no signature '%s'" % signature)
        served = self.signatures["default"]
        names = wanted_outputs(outputs, [spec.name for spec in served.outputs])
        arrays = [check_input(spec, inputs) for spec in served.inputs]
        if self._shapes is not None:
            self._check_shapes(tuple(array.shape for array in arrays))
        given = {index: to_tensor(spec.name, array) for index, (spec, array) in enumerate(zip(served.inputs, arrays))}
        if self._request is None:  # a run has failed, after which others of the same shapes may return old outputs
            self.compiled = self._compile()
            self._request = self.compiled.create_infer_request()
        if self.keeps_state:
            self._request.reset_state()
        try:
            # With one thread, infer() drops errors of operators and leaves the answer to the previous request.
            self._request.start_async(given, share_inputs=True)
            self._request.wait()
        except RuntimeError as error:
            self._request = None
            if "bad_alloc" in str(error) or "allocate" in str(error):
                raise MemoryError(client_message(error)) from error
            raise InvalidInput(client_message(error)) from error
        if self._guarded and bool(self._request.get_output_tensor(len(self._positions)).data.any()):
            raise InvalidInput(self._guarded)
        return {name: to_array(self._request.get_output_tensor(self._positions[name])) for name in names}
