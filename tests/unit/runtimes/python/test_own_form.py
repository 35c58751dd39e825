"""Models in our own form: signatures from annotations, errors at load, and what predict may return."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes.contract import (
    InvalidInput,
    LoadError,
    LoadOptions,
    Model,
    Request,
    SequenceControl,
    TensorSpec,
    numpy_dtype,
)
from runtimes.control import BatchingOptions
from runtimes.python.runtime import load
from runtimes.worker.batching_decision import decide_batching

Loader = Callable[..., Model]


@pytest.fixture(name="loaded")
def _loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loader]:
    """Loads source as a worker would, which has one model; restores what that changes in the process."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = dict(sys.modules)

    def load_source(source: str, **options: Any) -> Model:
        (tmp_path / "model.py").write_text(source)
        return load(LoadOptions(str(tmp_path / "model.py"), name="m", version="1", **options))

    yield load_source
    for name in set(sys.modules) - set(before):
        if name in ("model", "modelport", "triton_python_backend_utils", "beside"):
            del sys.modules[name]


ANNOTATED = """
class Model:
    def predict(self, image: "FP32[-1, 3]", text: "BYTES[-1]", free) -> {"y": "FP32[-1]", "label": "BYTES[-1]"}:
        return {"y": image.sum(axis=1), "label": [each.decode() + "!" for each in text], "other": 1}
"""


@pytest.mark.parametrize("prefix", ["", "from __future__ import annotations\n"])
def test_annotations_are_the_signature(loaded: Loader, prefix: str) -> None:
    model = loaded(prefix + ANNOTATED)
    assert model.signatures["default"].inputs == (
        TensorSpec("image", "FP32", (-1, 3)),
        TensorSpec("text", "BYTES", (-1,)),
        TensorSpec("free"),
    )
    inputs = {
        "image": np.ones((2, 3), np.float32),
        "text": np.array([b"a\0", "é".encode()], object),
        "free": np.zeros(1),
    }
    answer = model.infer(inputs, (), "default")
    assert answer["y"].tolist() == [3.0, 3.0]
    assert answer["label"].tolist() == [b"a\0!", "é!".encode()]
    assert list(model.infer(inputs, ["label"], "default")) == ["label"]


@pytest.mark.parametrize("value", ["x + x", "[2, -4.0]"])
@pytest.mark.parametrize("datatype", ["BF16", "FP8_E4M3FN", "INT4"])
def test_datatypes_that_numpy_lacks(loaded: Loader, datatype: str, value: str) -> None:
    model = loaded(returning(value, f'"{datatype}[-1]"').replace("FP32", datatype))
    x = np.array([1, -2]).astype(numpy_dtype(datatype))
    answer = model.infer({"x": x}, (), "default")["output"]
    assert (answer.dtype, answer.tolist()) == (x.dtype, [2, -4])


def test_model_toml_declares_what_annotations_leave_out(loaded: Loader) -> None:
    source = "class Anything:\n    def predict(self, x):\n        return x * 2"
    declared = (TensorSpec("x", "INT32", (-1,)),), (TensorSpec("twice", "INT32", (-1,)),)
    model = loaded(source, inputs=declared[0], outputs=declared[1])
    assert model.infer({"x": np.array([1, 2], np.int32)}, (), "default")["twice"].tolist() == [2, 4]


def test_load_gets_folder_and_parameters_and_modules_beside_it(loaded: Loader, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("NAME = 'beside'")
    (tmp_path / "weights.txt").write_text("7")
    source = """
import os, beside
class Model:
    def load(self, context):
        with open(os.path.join(context.folder, "weights.txt")) as file:
            self.weight = int(file.read()) * context.parameters["factor"]
    def predict(self, x: "INT64[]") -> "INT64":
        return x + self.weight
"""
    model = loaded(source, parameters={"factor": 3})
    assert model.infer({"x": np.array(1)}, (), "default")["output"].tolist() == 22
    assert not list(tmp_path.glob("__pycache__")), "a new file would load the model again"


def test_inputs_cannot_be_changed_and_are_not_passed_on(loaded: Loader) -> None:
    source = """
class Model:
    def predict(self, x: "FP32[-1]") -> "FP32[-1]":
        if x[0] == 1:
            x += 1
        return x
"""
    model, given = loaded(source), np.zeros(2, np.float32)
    answer = model.infer({"x": given}, (), "default")["output"]
    assert not np.may_share_memory(answer, given)
    with pytest.raises(ValueError, match="read-only"):
        model.infer({"x": given + 1}, (), "default")


def test_kept_inputs_do_not_get_those_of_later_requests(loaded: Loader) -> None:
    source = """
class Model:
    kept = None

    def predict(self, x: "FP32[-1]") -> "FP32[-1]":
        before, self.kept = self.kept, x
        return x if before is None else before
"""
    model, memory = loaded(source), np.zeros(2, np.float32)
    model.infer({"x": memory}, (), "default")
    memory[:] = 5
    assert model.infer({"x": memory}, (), "default")["output"].tolist() == [0.0, 0.0]


def test_a_generator_may_fill_the_same_array_for_each_answer(loaded: Loader) -> None:
    source = """
import numpy as np
class Model:
    def predict(self, x: "FP32[-1]") -> "FP32[-1]":
        found = np.zeros(1, np.float32)
        for _ in range(3):
            found += x
            yield found
"""
    answers = loaded(source).stream({"x": np.ones(1, np.float32)}, (), "default")
    assert [each["output"].tolist() for each in list(answers)] == [[1.0], [2.0], [3.0]]


def test_lists_and_numbers_become_the_declared_datatype(loaded: Loader) -> None:
    x = {"x": np.ones(1, np.float32)}
    assert loaded(returning("[1.0, True]", '"INT8[-1]"')).infer(x, (), "default")["output"].tolist() == [1, 1]


def test_a_model_refuses_an_input_with_its_own_words(loaded: Loader) -> None:
    source = """
from modelport import InvalidInput
class Model:
    def predict(self, x: "FP32[-1]") -> "FP32[-1]":
        raise InvalidInput("x must be positive")
"""
    with pytest.raises(InvalidInput, match="x must be positive"):
        loaded(source).infer({"x": np.zeros(1, np.float32)}, (), "default")


def test_a_generator_gives_several_answers_and_is_closed(loaded: Loader, capsys: pytest.CaptureFixture[str]) -> None:
    source = """
class Model:
    def predict(self, x: "FP32[-1]") -> {"y": "FP32[-1]", "n": "INT64"}:
        try:
            yield {"y": x}
            yield {"n": 7, "other": 1}
            yield {"y": "wrong"}
        finally:
            print("closed")
"""
    model = loaded(source)
    assert model.decoupled
    answers = model.stream({"x": np.ones(1, np.float32)}, (), "default")
    assert [{name: each.tolist() for name, each in next(answers).items()} for _ in range(2)] == [{"y": [1.0]}, {"n": 7}]
    with pytest.raises(ValueError, match="could not convert"):
        next(answers)
    assert capsys.readouterr().out == "closed\n"
    left = model.stream({"x": np.ones(1, np.float32)}, ["n"], "default")
    assert next(left) == {}
    left.close()  # type: ignore[attr-defined]
    assert capsys.readouterr().out == "closed\n"


def test_a_parameter_with_a_default_is_an_optional_input(loaded: Loader) -> None:
    source = """
class Model:
    def predict(self, x: "FP32[-1]", threshold: "FP32[1]" = (0.5,)) -> {"y": "BOOL[-1]"}:
        return {"y": x > threshold[0]}
"""
    model, x = loaded(source), np.array([0.4, 0.6], np.float32)
    assert model.signatures["default"].optional == ("threshold",)
    assert model.infer({"x": x}, (), "default")["y"].tolist() == [False, True]
    given = {"x": x, "threshold": np.array([0.3], np.float32)}
    assert model.infer(given, (), "default")["y"].tolist() == [True, True]
    with pytest.raises(InvalidInput, match="input 'x' is missing"):
        model.infer({"threshold": x[:1]}, (), "default")


def returning(value: str, annotation: str = '{"y": "FP32[-1]"}') -> str:
    return f"class Model:\n    def predict(self, x: 'FP32[-1]') -> {annotation}:\n        return {value}"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (returning("x.astype('f8')"), "output 'y' is FP64, but it is declared as FP32: convert it with astype"),
        (returning("[[1.0]]"), r"output 'y' has shape \[1, 1\], but it is declared with \[-1\]"),
        (returning("{'z': x}"), "predict returned 'z', but not 'y'"),
        (
            returning("x", '{"y": "FP32[-1]", "z": "FP32[-1]"}'),
            "predict returned ndarray, not a dictionary of 'y', 'z'",
        ),
        (returning("x + 1j", '"BYTES[-1]"'), "an array of complex64, which no client can get"),
        (returning("[b'a', 1]", '"BYTES[-1]"'), "contains int, not only texts and bytes"),
        (returning("[1.7]", '"INT64[-1]"'), "output 'output' has values that are not INT64"),
        (returning("[1.7]", '"INT4[-1]"'), "output 'output' has values that are not INT4"),
        (returning("['1']", '"INT8[-1]"'), "output 'output' has values that are not INT8"),
        (returning("['False']", '"BOOL[-1]"'), "output 'output' has values that are not BOOL"),
    ],
)
def test_what_predict_returns_must_fit_what_it_declares(loaded: Loader, source: str, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        loaded(source).infer({"x": np.ones(1, np.float32)}, (), "default")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nowhere_to_be_found", "imports 'nowhere_to_be_found', which its environment does not have"),
        ("def (", "model.py is not Python, line 1"),
        ("import sys; sys.exit(4)", "ends the process when it is imported"),
        ("x = 1", "no class with a method predict, and no class TritonPythonModel"),
        ("class A:\n    predict = 1\nclass B:\n    predict = 1", "several classes with a method predict: A, B"),
        (returning("x", "None"), "what predict returns is annotated with None, but"),
        (returning("x", '"FP33[-1]"'), "what predict returns is annotated with 'FP33"),
        (returning("x", '"FP32[0]"'), "every size must be positive, or -1 for any"),
        ("class Model:\n    def predict(self, x): return x", "predict does not say what it returns: annotate it"),
        ("class Model:\n    def predict(self, x: float) -> 'FP32': return x", "'x' is annotated with float, but"),
        ("class Model:\n    def predict(self, *x) -> 'FP32': return x", r"has the parameter '\*x'"),
        ("class Model:\n    def predict(self, x=1) -> 'FP32': return x", "every parameter of predict has a default"),
        ("class Model:\n    def predict(self) -> 'FP32': return 1", "predict has no parameters besides self"),
        ("class Model:\n    async def predict(self, x) -> 'FP32': return x", "predict is asynchronous"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_sentence(loaded: Loader, source: str, said: str) -> None:
    with pytest.raises(LoadError, match=said):
        loaded(source)


@pytest.mark.parametrize("annotated", ["Request", "modelport.Request", "'Request'"])
def test_predict_gets_the_request_if_it_asks_for_it(loaded: Loader, annotated: str) -> None:
    model = loaded(
        f"""
import modelport
from modelport import Request
class Model:
    def predict(self, x: "FP32[-1, 2]", request: {annotated}) -> {{"y": "FP32[-1, 2]", "said": "BYTES[1]"}}:
        sequence = request.sequence.id if request.sequence else None
        said = [request.id, request.parameters, sequence, list(request.outputs), request.inputs["x"] is x]
        return {{"y": x * 2, "said": [str(said)]}}
"""
    )
    assert [spec.name for spec in model.signatures["default"].inputs] == ["x"]
    ones = np.ones((1, 2), np.float32)
    [answer] = model.infer_requests([Request({"x": ones}, (), "a", {"k": 1}, SequenceControl("s"))], "default")
    assert isinstance(answer, dict)
    assert (answer["y"].tolist(), answer["said"].tolist()) == ([[2.0, 2.0]], [b"['a', {'k': 1}, 's', [], True]"])
    assert model.infer({"x": ones}, (), "default")["said"].tolist() == [b"['', {}, None, [], True]"]
    decision = decide_batching(model, BatchingOptions())
    assert decision.note == "batching is off: predict takes the request"


def test_a_generator_gets_the_request_too(loaded: Loader) -> None:
    model = loaded(
        """
from modelport import Request
class Model:
    def predict(self, x: "FP32[2]", request: Request) -> "FP32[2]":
        for number in range(request.parameters.get("times", 1)):
            yield x + number
"""
    )
    request = Request({"x": np.ones(2, np.float32)}, (), "", {"times": 3})
    assert (model.decoupled, model.takes_requests) == (True, True)
    found = [answer["output"].tolist() for answer in model.stream_request(request, "default")]
    assert found == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]


def test_the_request_is_one_parameter(loaded: Loader) -> None:
    source = """
from modelport import Request
class Model:
    def predict(self, x: "FP32[2]", a: Request, b: Request) -> "FP32[2]":
        return x
"""
    with pytest.raises(LoadError, match="predict takes the request as 'a', 'b'; one parameter is enough"):
        loaded(source)
