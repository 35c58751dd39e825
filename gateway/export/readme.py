"""The README.md of an export's folder: what it is, how much it differs from the original, and how to use it."""

from gateway.export import snippets
from gateway.export.page import ENGINES, signature_of
from gateway.export.report import Report
from gateway.export.snippets import Variable
from gateway.export.source import Source

_FORMATS = {"tflite": "TensorFlow Lite", "tfjs": "TensorFlow.js", "onnx": "ONNX", "executorch": "ExecuTorch"}
_PAGE = """\
## The page

`index.html` runs the model in a browser. It loads files from this folder only, so you can copy the folder to any web \
server. To try it here, run `python3 -m http.server` in this folder and open http://localhost:8000. When the page \
loads, it runs `example.json` and shows how much this browser's results differ. `lib/LICENCES.txt` contains the \
licenses of the libraries."""


def readme(report: Report, model_format: str, source: Source) -> str:
    inputs, outputs = snippets.variables(report.inputs, report.outputs)
    parts = [
        f"# {report.model}",
        f"Version {report.version}, exported to {_title(report, model_format)} by modelport {report.modelport}, and "
        f"compared with the original, which ran in {report.original.runner} on the same inputs:",
        f"```\n{report.text().rstrip()}\n```",
        "`export.json` contains the same for programs, with hashes and the tools' versions. `example.json` contains "
        "one of the inputs with the original's answer; `data` is flat, row by row.",
        "## Interface",
        "\n".join([*_HEAD, *_rows("input", inputs), *_rows("output", outputs)]),
    ]
    if report.target in ("tfjs", "web"):
        parts.append(_PAGE)
    if report.target != "web":
        parts += _usage(model_format, inputs, outputs, signature_of(source))
    return "\n\n".join(parts) + "\n"


def _title(report: Report, model_format: str) -> str:
    page = f" (with a page that runs it in {ENGINES[model_format].title})" if report.target == "web" else ""
    return _FORMATS[model_format] + page


_HEAD = ("| | name | datatype | shape (-1: any size) |", "|---|---|---|---|")


def _rows(kind: str, tensors: list[Variable]) -> list[str]:
    return [f"| {kind} | {code(each.tensor)} | {each.datatype} | `{each.declared}` |" for each in tensors]


def code(name: str) -> str:
    """Return the name as code that is valid in a Markdown table, whatever characters it contains."""
    ticks = "``" if "`" in name else "`"
    space = " " if "`" in name else ""
    return ticks + space + name.replace("|", r"\|") + space + ticks


def _usage(model_format: str, inputs: list[Variable], outputs: list[Variable], signature: str) -> list[str]:
    if model_format == "tfjs":
        return ["## JavaScript", _block("js", snippets.javascript(inputs, outputs))]
    if model_format == "onnx":
        return ["## Python", _block("python", snippets.onnxruntime(inputs, outputs))]
    if model_format == "executorch":
        return [
            "The file has no names: inputs and outputs are in the order above. Each of these programs runs one row.",
            "## Android (Kotlin)",
            _block("kotlin", snippets.executorch_kotlin(inputs, outputs)),
            *(
                ["## iOS (Swift)", _block("swift", snippets.executorch_swift(inputs, outputs))]
                if snippets.has_swift([*inputs, *outputs])
                else []
            ),
            "## Python",
            _block("python", snippets.executorch(inputs, outputs)),
        ]
    return [
        "Names and labels are also in the file's metadata. Each of these programs runs one row.",
        "## Android (Kotlin)",
        _block("kotlin", snippets.kotlin(inputs, outputs, signature)),
        "## iOS (Swift)",
        _block("swift", snippets.swift(inputs, outputs)),
        "## Python",
        _block("python", snippets.litert(inputs, outputs, signature)),
    ]


def _block(language: str, lines: list[str]) -> str:
    return "\n".join([f"```{language}", *lines, "```"])
