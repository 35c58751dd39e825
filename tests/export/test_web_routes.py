"""--to web uses LiteRT.js with a batch of one, or else ONNX Runtime Web."""

import pytest

from gateway.export.errors import CannotExport
from gateway.export.routes import routes


@pytest.mark.parametrize("source", ["savedmodel", "torchscript", "pt2", "mxnet", "onnx", "cntk", "dl4j"])
@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic", "int8"])
def test_litertjs_first_then_onnx_runtime_web(source: str, precision: str) -> None:
    found = routes(source, "web", precision)
    formats = [route.gives(source) for route in found]
    assert formats == sorted(formats, reverse=True)
    assert set(formats) == {"tflite", "onnx"}
    for route in found:
        if route.gives(source) == "tflite":
            assert route.tools[-1].function == "fit_litertjs"
            batches = [tool.options["batch"] for tool in route.tools if tool.function == "savedmodel_to_tflite"]
            assert set(batches) <= {1}
        else:
            assert route.name.endswith("ONNX Runtime Web")
    steps = [[(tool.function, dict(tool.options)) for tool in route.tools] for route in found]
    assert all(steps.count(each) == 1 for each in steps)


def test_a_tflite_file_has_litertjs_alone() -> None:
    (route,) = routes("tflite", "web")
    assert (route.name, route.gives("tflite")) == ("LiteRT.js", "tflite")


def test_what_cannot_become_either() -> None:
    with pytest.raises(CannotExport, match="no route from caffe to web"):
        routes("caffe", "web")
