"""README.md of an exported folder: what it is, how far it is from the original, and how it is used."""

from gateway.export import snippets
from gateway.export.page import ENGINES, signature_of
from gateway.export.report import Report
from gateway.export.snippets import Variable
from gateway.export.source import Source

_FORMATS = {"tflite": "TensorFlow Lite", "tfjs": "TensorFlow.js", "onnx": "ONNX"}
_PAGE = """\
## The page

`index.html` runs the model in a browser, from this folder alone: copy the folder to any web server. To look at it \
here, run `python3 -m http.server` in this folder and open http://localhost:8000. When it loads, it runs \
`example.json` and says by how much this browser differs. `lib/LICENCES.txt` has the libraries' licences."""


def readme(report: Report, format: str, source: Source) -> str:
    inputs, outputs = snippets.variables(report.inputs, report.outputs)
    parts = [
        f"# {report.model}",
        f"Version {report.version}, exported to {_what(report, format)} by modelport {report.modelport}. It was run on "
        f"the same inputs as the original, which {report.original.runner} runs:",
        f"```\n{report.text().rstrip()}\n```",
        "`export.json` has all of this for programs, with hashes and the tools' versions. `example.json` has one of "
        "the inputs and what the original answered for it: `data` is flat, row by row.",
        "## Interface",
        "\n".join([*_HEAD, *_rows("input", inputs), *_rows("output", outputs)]),
    ]
    if report.target in ("tfjs", "web"):
        parts.append(_PAGE)
    if report.target != "web":
        parts += _usage(format, inputs, outputs, signature_of(source))
    return "\n\n".join(parts) + "\n"


def _what(report: Report, format: str) -> str:
    page = f", which a page runs by {ENGINES[format].title}" if report.target == "web" else ""
    return _FORMATS[format] + page


_HEAD = ("| | name | datatype | shape (-1: any size) |", "|---|---|---|---|")


def _rows(kind: str, tensors: list[Variable]) -> list[str]:
    return [f"| {kind} | {code(each.tensor)} | {each.datatype} | `{each.told}` |" for each in tensors]


def code(name: str) -> str:
    """In a table, whatever the name holds."""
    ticks = "``" if "`" in name else "`"
    space = " " if "`" in name else ""
    return ticks + space + name.replace("|", r"\|") + space + ticks


def _usage(format: str, inputs: list[Variable], outputs: list[Variable], signature: str) -> list[str]:
    if format == "tfjs":
        return ["## JavaScript", _block("js", snippets.javascript(inputs, outputs))]
    if format == "onnx":
        return ["## Python", _block("python", snippets.onnxruntime(inputs, outputs))]
    return [
        "Names and labels are in the file's metadata as well. Each of these runs one row.",
        "## Android (Kotlin)",
        _block("kotlin", snippets.kotlin(inputs, outputs, signature)),
        "## iOS (Swift)",
        _block("swift", snippets.swift(inputs, outputs)),
        "## Python",
        _block("python", snippets.litert(inputs, outputs, signature)),
    ]


def _block(language: str, lines: list[str]) -> str:
    return "\n".join([f"```{language}", *lines, "```"])
