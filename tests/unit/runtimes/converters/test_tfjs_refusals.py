"""What the step to TensorFlow.js says where the tool fails, without the tool."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runtimes.conversion import Refused, Step

FILE = Path(__file__).parents[4] / "runtimes" / "converters" / "tf" / "tfjs.py"


@pytest.fixture
def tfjs(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, function in (("from_savedmodel", "save_plain"), ("unfuse", "unfuse")):
        stub = ModuleType(name)
        setattr(stub, function, lambda *_: None)
        monkeypatch.setitem(sys.modules, f"modelport_converter.{name}", stub)
    monkeypatch.setitem(sys.modules, "modelport_converter", ModuleType("modelport_converter"))
    spec = importlib.util.spec_from_file_location("tfjs", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("message", "error", "says"),
    [
        ("Allowlist does not support `_GrapplerSpecializedFunc` as an attribute.", Refused, "export it to onnx"),
        ("another", ValueError, "another"),
    ],
)
def test_a_graph_that_tensorflow_itself_cannot_read_is_refused_with_another_target(
    tfjs: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, message: str, error: type[Exception], says: str
) -> None:
    def convert(*_: Any, **__: Any) -> None:
        raise ValueError(message)

    monkeypatch.setattr(tfjs, "_convert", lambda: convert)
    step = Step("", str(tmp_path / "out"), (), (), "", {}, [], [], {}, {})
    with pytest.raises(error, match=says):
        tfjs.savedmodel_to_tfjs(step)
