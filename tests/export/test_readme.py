"""README.md and example.json of exports: their programs run, and their numbers are those of the original."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gateway.environments.environment import Environment
from gateway.export import comparison, example, readme, snippets
from gateway.export.cases import Case
from gateway.export.report import Report
from runtimes.contract import Signature, TensorSpec
from tests.export.conftest import make
from tests.support import ROOT

Exported = Callable[..., tuple[Path, Report]]


def block(folder: Path, language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)\n```", (folder / "README.md").read_text(), re.DOTALL)
    return str(found)


@pytest.mark.parametrize(("target", "runtime"), [("tflite", "tflite"), ("onnx", "onnx")])
def test_the_python_program_runs(
    target: str, runtime: str, exported: Exported, runtime_environment: Callable[[str], Environment]
) -> None:
    folder, _ = exported("digits_onnx", target)
    python = runtime_environment(runtime).python
    done = subprocess.run(
        [python, "-c", block(folder, "python")], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"\d\.\d+e?", done.stdout)) == 10


def test_programs_for_phones(exported: Exported) -> None:
    folder, report = exported("digits_onnx", "tflite")
    kotlin, swift = block(folder, "kotlin"), block(folder, "swift")
    assert "val image = ByteBuffer.allocateDirect(256).order(ByteOrder.nativeOrder())  // FP32 [-1, 64]" in kotlin
    assert 'runSignature(mapOf("image" to image), mapOf("scores" to scores), "serving_default")' in kotlin
    assert "let image = [Float](repeating: 0, count: 64)  // FP32 [-1, 64]" in swift
    assert "toInputAt: 0" in swift
    assert all(len(text.splitlines()) <= 11 for text in (kotlin, swift))
    assert report.text().rstrip() in (folder / "README.md").read_text()


def test_the_program_for_pages(exported: Exported) -> None:
    folder, _ = exported("digits_onnx", "tfjs")
    assert 'await model.executeAsync({"image": image}, "scores");' in block(folder, "js")


def test_names_that_no_program_can_have() -> None:
    inputs, outputs = snippets.variables(
        [["in", "FP32", [-1, 2]], ['a "b" $c', "INT64", [1]], ["0", "BOOL", []]], [["a__b__c", "FP32", None]]
    )
    assert [each.name for each in (*inputs, *outputs)] == ["in_", "a__b___c", "tensor_0", "a__b__c"]
    assert [each.shape for each in inputs] == [(1, 2), (1,), ()]
    kotlin = "\n".join(snippets.kotlin(inputs, outputs, "serving_default"))
    assert r'"a \"b\" \$c" to a__b___c' in kotlin
    assert "[Bool](repeating: false, count: 1)" in "\n".join(snippets.swift(inputs, outputs))


def test_names_that_would_break_a_table() -> None:
    assert readme.code("x:0") == "`x:0`"
    assert readme.code("a|b") == r"`a\|b`"
    assert readme.code("a`|b") == r"`` a`\|b ``"


def test_the_example_is_the_originals(exported: Exported) -> None:
    """Compared by value: ONNX Runtime computes the same outputs again."""
    folder, report = exported("digits_onnx", "onnx")
    document = json.loads((folder / "example.json").read_text())
    assert document["tolerance"] == pytest.approx(report.tolerance + 1e-3)
    image, scores = document["inputs"]["image"], document["outputs"]["scores"]
    assert (image["datatype"], image["shape"], len(image["data"])) == ("FP32", [1, 64], 64)
    assert (scores["shape"], len(scores["data"])) == ([1, 10], 10)
    assert sum(scores["data"]) == pytest.approx(1, abs=1e-5)
    assert scores["scale"] == pytest.approx(max(scores["data"]))


def test_values_that_json_has_no_numbers_for() -> None:
    specs = (TensorSpec("x", "FP32", (-1,)),)
    outputs = (TensorSpec("y", "FP32", (-1,)), TensorSpec("n", "INT32", (-1,)))
    x = np.array([0.1, 1], np.float32)
    y = np.array([np.nan, np.inf, -np.inf, 1e-30, 0.1], np.float32)
    answered = [
        (Case("large", {"x": x}), {"y": y, "n": np.array([2**31 - 1])}),
        (Case("other", {"x": x}), {"y": y, "n": np.array([0])}),
    ]
    made = example.example_json(answered, Signature(specs, outputs), False, 1e-4)
    document = json.loads(example.dump(made))
    assert document["inputs"]["x"]["data"] == [0.1, 1.0]
    assert document["outputs"]["y"]["data"] == ["NaN", "Infinity", "-Infinity", 1e-30, 0.1]
    assert document["outputs"]["y"]["scale"] == pytest.approx(0.1)
    assert (document["outputs"]["n"]["datatype"], document["outputs"]["n"]["data"]) == ("INT32", [2**31 - 1])


def test_an_answer_of_zeros_has_a_scale() -> None:
    assert comparison.scale(np.zeros(3, np.float32), [np.zeros(3, np.float32)]) > 0


def test_the_licences_are_there(exported: Exported) -> None:
    for target, only, words in (
        ("tfjs", "", ["@tensorflow/tfjs 4.22.0", "Apache License"]),
        ("web", "", ["@litertjs/core 2.5.3", "Apache License"]),
        ("web", "onnx", ["onnxruntime-web 1.30.0", "MIT License", "Microsoft"]),
    ):
        folder, _ = exported("digits_onnx", target, only)
        text = (folder / "lib" / "LICENCES.txt").read_text()
        assert all(word in text for word in words)
        listed = set(re.findall(r"^  (\S+/\S+?)(?: \(there .*\))?$", text, re.MULTILINE))
        there = {file.relative_to(folder / "lib").as_posix() for file in (folder / "lib").rglob("*") if file.is_file()}
        assert listed == there - {"LICENCES.txt"}


def test_a_page_for_a_name_with_markup(tmp_path: Path, runtime_environment: Callable[[str], Environment]) -> None:
    runtime_environment("onnx")
    model = tmp_path / "a <b>&amp; c.onnx"
    model.write_bytes((ROOT / "model_repo/digits_onnx/1/model.onnx").read_bytes())
    make(str(model), "web", tmp_path / "out", "onnx")
    text = (tmp_path / "out" / "index.html").read_text()
    assert "a &lt;b&gt;&amp;amp; c" in text
    assert "<b>" not in text
