"""What an export of a pipeline says about itself: pipeline.json, export.json and README.md."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gateway.export.readme import code
from gateway.export.report import Run, as_text


@dataclass(frozen=True)
class ExportedStep:
    """A step, in an order in which the steps can run.

    folder    of its model's export, relative to the pipeline's; steps with the same model share it
    file      of the model, relative to that folder; format: as in routes.py
    inputs    input of the exported model → tensor of the pipeline
    outputs   output of the exported model → tensor of the pipeline
    """

    model: str
    version: str
    folder: str
    file: str
    format: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class PipelineReport:
    """The content of export.json. inputs, outputs: of the served pipeline. Others: as in report.Report."""

    model: str
    version: str
    target: str
    precision: str
    tolerance: float
    inputs: Sequence[Sequence[Any]]
    outputs: Sequence[Sequence[Any]]
    steps: Sequence[ExportedStep]
    cases: int
    origin: str
    runs: Sequence[Run]
    notes: Sequence[str]
    modelport: str
    created: str

    def write(self, folder: Path) -> None:
        """Write the files into the folder that has the steps' exports."""
        graph = {
            "pipeline": self.model,
            "version": self.version,
            "inputs": [_described(each) for each in self.inputs],
            "outputs": [_described(each) for each in self.outputs],
            "steps": [asdict(step) for step in self.steps],
        }
        (folder / "pipeline.json").write_text(json.dumps(graph, indent=1) + "\n")
        (folder / "export.json").write_text(json.dumps(asdict(self), indent=1) + "\n")
        (folder / "README.md").write_text(self.readme())

    def text(self, width: int = 120) -> str:
        """Return the report for people, as in the README and on the terminal."""
        head = [
            f"{self.model} version {self.version}: a pipeline → {self.target}, {self.precision}",
            *(
                f"step {number} {step.model} version {step.version}: {step.folder}/{step.file}"
                for number, step in enumerate(self.steps, 1)
            ),
            f"check  the whole matches the originals on {self.cases} inputs ({self.origin})",
            f"       within {self.tolerance:g} of each output's largest value",
        ]
        return as_text(head, self.runs, self.tolerance, self.notes, width)

    def readme(self) -> str:
        rows = [
            f"| {number} | [{step.folder}]({step.folder}/README.md) | {_mapped(step.inputs, '←')} | "
            f"{_mapped(step.outputs, '→')} |"
            for number, step in enumerate(self.steps, 1)
        ]
        tensors = [
            f"| {kind} | {code(name)} | {datatype} | `{'unknown' if shape is None else list(shape)}` |"
            for kind, specs in (("input", self.inputs), ("output", self.outputs))
            for name, datatype, shape in specs
        ]
        parts = [
            f"# {self.model}",
            f"Version {self.version} of a pipeline, whose models were exported by modelport {self.modelport}. Each of "
            "them was compared with its original. Then the whole was run on the same inputs as the originals, every "
            "model in its own framework:",
            f"```\n{self.text().rstrip()}\n```",
            "## Steps",
            "Run the models in this order. Each has a folder with starter code. The arrows show which tensor of the "
            "pipeline an input gets, and which one an output becomes. If an exported model declares another datatype "
            "than the tensor has, convert the values.",
            "\n".join(["| | model | inputs | outputs |", "|---|---|---|---|", *rows]),
            "## Interface",
            "\n".join(["| | name | datatype | shape (-1: any size) |", "|---|---|---|---|", *tensors]),
            "`pipeline.json` contains the order and the connections for programs. `export.json` contains the "
            "comparison. `example.json` contains one of the inputs with the originals' answer; `data` is flat, row by "
            "row.",
        ]
        return "\n\n".join(parts) + "\n"


def _described(spec: Sequence[Any]) -> dict[str, Any]:
    name, datatype, shape = spec
    return {"name": name, "datatype": datatype, "shape": None if shape is None else list(shape)}


def _mapped(names: Mapping[str, str], arrow: str) -> str:
    return ", ".join(f"{code(name)} {arrow} {code(tensor)}" for name, tensor in names.items())
