"""Writes docs/differences.md: `python -m audit.differences.page`, with every runtime's environment at hand."""

import json
import math
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from audit.differences import onnx_models
from audit.differences.questions import QUESTIONS, Question
from benchmarks.environments import python_of
from gateway.environments.runtime import discover

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "differences.md"
# Column, the runtime whose environment answers, the script, and what it needs from an earlier one.
FRAMEWORKS = [
    ("PyTorch", "torchscript", "in_torch.py", ""),
    ("TensorFlow", "savedmodel", "in_tensorflow.py", "tflite"),
    ("LiteRT", "tflite", "in_litert.py", "tflite"),
    ("ONNX Runtime", "onnx", "in_onnxruntime.py", "onnx"),
    ("MXNet", "mxnet", "in_mxnet.py", ""),
    ("CNTK", "cntk", "in_cntk.py", ""),
]
HEAD = """# Where runtimes disagree

Made by `python -m audit.differences.page`, which asks every framework in its own environment; do not edit it by hand.

The same operator, the same ordinary input, different answers. modelport serves each model by its own framework, so that
what is served is what the framework says; these rows matter when a model is exported, or when two models are compared.
`modelport export` and `modelport compare` refer to them by name. A dash: the framework has no such operator, or it was
not asked.

"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        answers = ask(Path(scratch))
    PAGE.write_text(HEAD + page(answers))


def ask(scratch: Path) -> dict[str, Any]:
    """Column → {"version", "answers"}."""
    questions = scratch / "questions.json"
    questions.write_text(json.dumps([question._asdict() for question in QUESTIONS]))
    for name in ("tflite", "onnx"):
        (scratch / name).mkdir()
    onnx_models.write(scratch / "onnx")
    found = {}
    for column, runtime, script, folder in FRAMEWORKS:
        target = scratch / f"{runtime}.json"
        command = [str(python_of(runtime)), str(HERE / script), str(questions), str(target)]
        if folder:
            command.append(str(scratch / folder))
        variables = {**os.environ, **discover()[runtime].env, "TF_CPP_MIN_LOG_LEVEL": "3"}
        variables = {key: value.replace("{threads}", "1") for key, value in variables.items()}
        subprocess.run(command, check=True, env=variables, stdout=subprocess.DEVNULL)
        found[column] = json.loads(target.read_text())
    return found


def page(answers: dict[str, Any]) -> str:
    versions = ", ".join(each["version"] for each in answers.values())
    lines = [f"Versions: {versions}; on CPU, x86-64.", ""]
    agreed = []
    for question in QUESTIONS:
        row = {column: shown(each["answers"].get(question.id)) for column, each in answers.items()}
        if len({cell for cell in row.values() if cell != "—"}) < 2:
            agreed.append(question.title)
            continue
        lines += section(question, row)
    lines += ["## Asked, and answered alike by all", ""]
    lines += [f"- {title}" for title in agreed]
    return "\n".join(lines) + "\n"


def section(question: Question, row: dict[str, str]) -> list[str]:
    table = ["| " + " | ".join(row) + " |", "|" + "---|" * len(row), "| " + " | ".join(row.values()) + " |"]
    return [f"## {question.id}", "", f"{question.title}.", "", *table, "", question.remedy, ""]


def shown(answer: dict[str, Any] | None) -> str:
    if answer is None:
        return "—"
    if "error" in answer:
        return "refused"
    return "`" + _text(_flat(answer["value"])) + "`"


def _flat(value: Any) -> list[Any]:
    """Nesting differs by framework and says nothing here: each answer is shown as one row."""
    return [each for part in value for each in _flat(part)] if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_text(each) for each in value) + "]"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
        return f"{value:.0f}" if value == int(value) and abs(value) < 2**53 else f"{value:.6g}"
    return str(value)


if __name__ == "__main__":
    main()
