"""The routes from each format to each target, best first: the tools to run. docs/export.md shows them as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.export.errors import CannotExport

TARGETS = ("tflite", "executorch", "tfjs", "onnx", "web")
# Datatypes that numpy lacks and a target has. Models with others are refused, because a cast at the boundary would make
# another interface than the served one.
SMALL_DATATYPES = {"onnx": ("BF16", "FP8_E4M3FN", "FP8_E5M2", "INT4", "UINT4"), "executorch": ("BF16",)}
PRECISIONS = ("float32", "float16", "dynamic", "int8")


@dataclass(frozen=True)
class Tool:
    """One step. function: of convert.py in that environment; gives: the format that it writes."""

    environment: str
    function: str
    gives: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """Steps, one after another. about: what is special about them, in words."""

    name: str
    tools: tuple[Tool, ...]
    about: str = ""

    def __add__(self, other: "Route") -> "Route":
        about = "; ".join(each for each in (self.about, other.about) if each)
        return Route(f"{self.name}, {other.name}" if self.tools else other.name, self.tools + other.tools, about)

    def gives(self, source: str) -> str:
        """Return the format of the result for a source in this format."""
        return self.tools[-1].gives if self.tools else source

    @property
    def environments(self) -> list[str]:
        return list(dict.fromkeys(tool.environment for tool in self.tools))


def _route(name: str, environment: str, function: str, about: str = "", **options: Any) -> Route:
    gives = function.partition("_to_")[2].partition("_")[0]
    return Route(name, (Tool(environment, function, gives, options),), about)


_AS_IT_IS = Route("as it is", ())
_PSEUDO = {"pseudo": ("erf", "gelu")}
_APPROXIMATE = "erf and GELU are approximated"
_ONE = "with a batch of one"

_TO_ONNX = {
    "torchscript": [
        _route("torch.onnx", "export-torch", "torchscript_to_onnx"),
        _route("torch.onnx", "export-torch", "torchscript_to_onnx", _ONE, batch=1),
        _route("torch.export, torch.onnx", "export-torch", "torchscript_to_onnx_by_export", _ONE, batch=1),
    ],
    "pt2": [_route("torch.onnx", "export-torch", "exported_to_onnx")],
    "savedmodel": [_route("tf2onnx", "export-tf", "savedmodel_to_onnx")],
    "mxnet": [_route("mx.onnx", "export-mxnet", "mxnet_to_onnx")],
    "onnx": [_AS_IT_IS],
    "tflite": [],
    "cntk": [_route("modelport's translation", "cntk_onnx", "cntk_to_onnx")],
    "dl4j": [_route("modelport's translation", "dl4j", "dl4j_to_onnx")],
}
# What TensorFlow loads, but its converters do not read.
_AS_SAVEDMODEL = {
    "keras": _route("Keras", "savedmodel", "keras_to_savedmodel"),
    "graphdef": _route("TensorFlow", "savedmodel", "graphdef_to_savedmodel"),
    "tfjs": _route("TensorFlow", "savedmodel", "tfjs_to_savedmodel"),
}
# The formats that can be exported; the key export_format of runtime.toml is one of them.
SOURCES = (*_TO_ONNX, *_AS_SAVEDMODEL)
_BY_ONNX2TF = _route("onnx2tf", "export-tf", "onnx_to_tflite")
_BY_ONNX2TF_ONE = _route("onnx2tf", "export-tf", "onnx_to_tflite", _ONE, batch=1)
_TO_SAVEDMODEL = _route("onnx2tf", "export-tf", "onnx_to_savedmodel")
_TO_SAVEDMODEL_ONE = _route("onnx2tf", "export-tf", "onnx_to_savedmodel", _ONE, batch=1)
_TO_SAVEDMODEL_NEARLY = _route(
    "onnx2tf", "export-tf", "onnx_to_savedmodel", f"{_ONE}, {_APPROXIMATE}", batch=1, **_PSEUDO
)
_BY_TENSORFLOW = _route("TFLiteConverter", "export-tf", "savedmodel_to_tflite")
_BY_TENSORFLOW_ONE = _route("TFLiteConverter", "export-tf", "savedmodel_to_tflite", _ONE, batch=1)
_BY_TFJS = _route("tensorflowjs", "export-tf", "savedmodel_to_tfjs")

_FIRST_TO_TFLITE = {
    "savedmodel": [_BY_TENSORFLOW, _BY_TENSORFLOW_ONE],
    "torchscript": [_route("litert-torch", "export-torch", "torchscript_to_tflite", _ONE)],
    "pt2": [_route("litert-torch", "export-torch", "exported_to_tflite", _ONE)],
    "tflite": [_AS_IT_IS],
}
_TO_PT2 = _route("torch.export", "export-torch", "torchscript_to_pt2")
_BY_EXECUTORCH = _route("executorch", "executorch", "pt2_to_executorch")
_BY_EXECUTORCH_ONE = _route("executorch", "executorch", "pt2_to_executorch", _ONE, batch=1)
_TO_EXECUTORCH = {
    "pt2": [_BY_EXECUTORCH, _BY_EXECUTORCH_ONE],
    "torchscript": [_TO_PT2 + _BY_EXECUTORCH_ONE],
}
_FIRST_TO_TFJS = {"savedmodel": [_BY_TFJS]}
# What runs the model in a page. LiteRT.js is smaller, but accepts fewer models.
_IN_LITERT_JS = Route("LiteRT.js", (Tool("export-lite", "fit_litertjs", "tflite"),))
_IN_ORT_WEB = Route("ONNX Runtime Web", ())


def translation(source: str, runtime: str) -> Tool | None:
    """Return the step by which a runtime translates a format to the ONNX that it runs; None if it does not."""
    tools = [tool for route in _TO_ONNX.get(source, ()) for tool in route.tools]
    return next((tool for tool in tools if tool.environment == runtime), None)


def routes(source: str, target: str, precision: str = "float32") -> list[Route]:
    """Return the routes from one format to a target, best first. Raises CannotExport if there are none."""
    if source in _AS_SAVEDMODEL:
        return [_AS_SAVEDMODEL[source] + route for route in routes("savedmodel", target, precision)]
    if target == "web":
        return _to_web(source, precision)
    if target == "onnx":
        found = list(_TO_ONNX.get(source, ()))
    elif target == "executorch":
        found = list(_TO_EXECUTORCH.get(source, ()))
    elif target == "tflite":
        found = list(_FIRST_TO_TFLITE.get(source, ()))
        by_both, by_both_one = (each + _BY_TENSORFLOW for each in (_TO_SAVEDMODEL, _TO_SAVEDMODEL_ONE))
        for rest in (_BY_ONNX2TF, by_both, _BY_ONNX2TF_ONE, by_both_one):
            found += [to_onnx + rest for to_onnx in _leading(source)]
    else:
        found = list(_FIRST_TO_TFJS.get(source, ()))
        for middle in (_TO_SAVEDMODEL, _TO_SAVEDMODEL_ONE, _TO_SAVEDMODEL_NEARLY):
            found += [to_onnx + middle + _BY_TFJS for to_onnx in _leading(source)]
    found.sort(key=lambda route: _ONE in route.about)  # prefer routes that keep the batch size dynamic
    if not found:
        raise CannotExport(f"there is no route from {source} to {target}: modelport export --list shows all routes")
    quantized = [each for route in found for each in _quantized(route, target, precision)]
    if precision == "int8":  # TensorFlow's calibration holds more often than the other's
        quantized.sort(key=lambda route: "TFLiteConverter" not in route.name)
    return quantized


def _leading(source: str) -> list[Route]:
    """The ways to ONNX from which another tool goes on: by each tool the one that leaves most open."""
    return list({route.name: route for route in reversed(_TO_ONNX.get(source, ()))}.values())[::-1]


def _to_web(source: str, precision: str) -> list[Route]:
    """Return the routes to a model for a page: a .tflite file with a batch of one, then an ONNX file."""
    found: list[Route] = []
    for target, last in (("tflite", _IN_LITERT_JS), ("onnx", _IN_ORT_WEB)):
        try:
            found += [_of_one_row(each) + last for each in routes(source, target, precision)]
        except CannotExport:
            continue
    if not found:
        raise CannotExport(f"there is no route from {source} to web: modelport export --list shows all routes")
    # With a batch of one, two of TensorFlow's routes are the same.
    return [each for index, each in enumerate(found) if each.tools not in [other.tools for other in found[:index]]]


def _of_one_row(route: Route) -> Route:
    """Fix the batch size in TensorFlow's converter, because LiteRT.js does not accept a dynamic one."""
    tools = tuple(
        replace(tool, options={**tool.options, "batch": 1}) if tool.function == "savedmodel_to_tflite" else tool
        for tool in route.tools
    )
    return replace(route, tools=tools)


def _quantized(route: Route, target: str, precision: str) -> list[Route]:
    if precision == "float32":
        return [route]
    option = {"quantize": precision}
    if target == "executorch":
        raise CannotExport("exports to ExecuTorch are float32 only: leave out --quantize")
    if target == "tfjs":
        if precision == "int8":
            raise CannotExport(
                "TensorFlow.js computes in float32 only: --quantize dynamic stores its weights in 8 bits, float16 in 16"
            )
        return [replace(route, tools=_with(route.tools, option))]
    if target == "onnx":
        return [route + Route("onnxruntime", (Tool("export-tf", "quantize_onnx", "onnx", option),))]
    after = route + Route("ai-edge-quantizer", (Tool("export-lite", "quantize_tflite", "tflite", option),))
    if route.tools and route.tools[-1].function == "savedmodel_to_tflite":
        return [replace(route, tools=_with(route.tools, option)), after]
    return [after]


def _with(tools: Sequence[Tool], options: Mapping[str, Any]) -> tuple[Tool, ...]:
    """Return the tools with further options for the last one."""
    return (*tools[:-1], replace(tools[-1], options={**tools[-1].options, **options}))
