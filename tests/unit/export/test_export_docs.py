"""docs/export.md lists the actual routes."""

import tomllib

from gateway.environments.runtime import converters
from gateway.export.comparison import TOLERANCES
from gateway.export.errors import CannotExport
from gateway.export.routes import SOURCES, TARGETS, routes
from tests.support import ROOT

TEXT = (ROOT / "docs/export.md").read_text()


def table() -> str:
    lines = ["| from | to | by, best first |", "|---|---|---|"]
    for source in SOURCES:
        for target in TARGETS:
            try:
                found = routes(source, target)
            except CannotExport:
                continue
            ways = [f"{route.name} ({route.about})" if route.about else route.name for route in found]
            lines.append(f"| {source} | {target} | {'; '.join(ways)} |")
    return "\n".join(lines)


def test_the_routes_are_told() -> None:
    assert table() in TEXT, f"docs/export.md lacks this table:\n{table()}"


def test_every_environment_is_told() -> None:
    for name in converters():
        assert f"| {name} |" in TEXT, name


def test_tolerances_are_told() -> None:
    for precision, tolerance in TOLERANCES.items():
        text = f"{tolerance:.0e}".replace("e-0", "e-")
        assert any(precision in line and f"| {text} |" in line for line in TEXT.splitlines()), (precision, text)


KINDS = {
    "mlp": "perceptron",
    "cnn": "grouped convolution, batch normalization",
    "fcn": "4-D output, transposed convolution",
    "long": "3-D output (5, 320)",
    "nchw": "channels first, in TensorFlow",
    "lstm": "LSTM (bidirectional, except in TensorFlow)",
    "bilstm": "bidirectional LSTM, in TensorFlow",
    "attention": "transformer block, GELU",
    "branch": "a branch that depends on the input",
    "loop": "a loop that depends on the input",
    "multi": "two inputs, int64 and float; two outputs of one shape",
    "passing": "an output that is an input",
    "names": "names with colons and slashes",
}
SIGNS = {"any": "✓", "one": "1"}


def kinds() -> str:
    expected = tomllib.loads((ROOT / "tests/export/table.toml").read_text())
    columns = [(framework, target) for framework in expected for target in ("tflite", "tfjs", "onnx")]
    lines = [
        "| | " + " | ".join(f"{framework} → {target}" for framework, target in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for model, title in KINDS.items():
        cells = [expected[framework].get(model, {}).get(target) for framework, target in columns]
        signs = ["" if cell is None else SIGNS.get(cell, "no") for cell in cells]
        lines.append(f"| {title} | " + " | ".join(signs) + " |")
    return "\n".join(lines)


def test_what_became_of_each_kind_of_model_is_told() -> None:
    assert kinds() in TEXT, f"docs/export.md lacks this table:\n{kinds()}"
