"""docs/dl4j.md lists exactly what is supported."""

from runtimes.dl4j import layers
from runtimes.dl4j.registry import LAYERS, PREPROCESSORS, VERTICES, Coverage
from tests.support import ROOT

assert layers  # importing it fills the registry
TEXT = (ROOT / "docs/dl4j.md").read_text()
SHOWN = {"stored": "DL4J's own outputs", "computed": "an independent computation", "": "**unverified**"}


def table(title: str, entries: dict[str, Coverage]) -> str:
    lines = [f"| {title} | computed in DL4J by | numbers confirmed by |", "|---|---|---|"]
    for kind, entry in sorted(entries.items(), key=lambda item: item[0].rsplit(".", 1)[-1]):
        lines.append(f"| {kind} | {entry.source} | {SHOWN[entry.evidence]} |")
    return "\n".join(lines)


def test_what_is_covered_is_told() -> None:
    for title, entries in (("layer", LAYERS), ("vertex", VERTICES), ("preprocessor", PREPROCESSORS)):
        assert table(title, entries) in TEXT, f"docs/dl4j.md lacks this table:\n{table(title, entries)}"
