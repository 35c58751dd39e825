"""Runs the tools of a route, one after another, each in its own environment."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from gateway.environments.environment import Environment
from gateway.export import cases
from gateway.export.jobs import RouteFailed
from gateway.export.routes import Route, Tool
from gateway.export.source import Source
from gateway.export.workspace import Workspace

_SUFFIXES = {"tflite": ".tflite", "onnx": ".onnx", "pt2": ".pt2", "executorch": ".pte"}  # other formats are folders


class ConversionJob(NamedTuple):
    """One step of a conversion: runtimes/conversion.py describes each key.

    function     a public function of the convert.py in that environment
    example      a file of inputs with one row, all sizes fixed
    calibration  files of real inputs, for int8
    """

    function: str
    environment: Environment
    source: Source
    artifact: Path
    destination: Path
    options: Mapping[str, Any]
    example: Path | None = None
    calibration: Sequence[Path] = ()

    def to_json(self) -> dict[str, Any]:
        shapes = {name: array.shape for name, array in cases.read(self.example).items()} if self.example else {}
        return {
            "action": "convert",
            "folder": str(self.environment.runtime.folder),
            "function": self.function,
            "source": str(self.artifact),
            "destination": str(self.destination),
            "inputs": self.source.signature.inputs,
            "outputs": self.source.signature.outputs,
            "signature": self.source.key,
            "shapes": shapes,
            "examples": [str(self.example)] if self.example else [],
            "calibration": [str(file) for file in self.calibration],
            "options": dict(self.options),
            "parameters": self.source.load.parameters,
        }


class Converted(NamedTuple):
    """notes: the tools' own sentences."""

    artifact: Path
    notes: Sequence[str]


class Converter:
    """Converts one model by any number of routes.

    Many routes begin with the same tools, so the result of each prefix of a route, or why it failed, is kept.
    """

    def __init__(
        self,
        source: Source,
        workspace: Workspace,
        example: Path,
        calibration: Sequence[Path],
        on_progress: Callable[[str], None],
    ) -> None:
        self._source = source
        self._workspace = workspace
        self._example = example
        self._calibration = calibration
        self._on_progress = on_progress
        self._results: dict[str, Converted | RouteFailed] = {}
        self.used: dict[str, Environment] = {}

    async def convert(self, route: Route) -> Converted:
        """Return what the route's last tool wrote. Raises RouteFailed."""
        artifact, notes = self._source.path, [route.about] if route.about else []
        for number, tool in enumerate(route.tools):
            key = repr(route.tools[: number + 1])
            if key not in self._results:
                self._on_progress(f"  {tool.environment}: {tool.function}")
                source = replace(self._source, key="serving_default") if number else self._source
                self._results[key] = await self._run(tool, source, artifact)
            result = self._results[key]
            if isinstance(result, RouteFailed):
                raise result
            artifact = result.artifact
            notes += result.notes
        return Converted(artifact, notes)

    async def _run(self, tool: Tool, source: Source, artifact: Path) -> Converted | RouteFailed:
        environments, jobs = self._workspace
        environment = self.used[tool.environment] = await environments.get(tool.environment)
        destination = jobs.folder(tool.function) / f"model{_SUFFIXES.get(tool.gives, '')}"
        job = ConversionJob(
            tool.function, environment, source, artifact, destination, tool.options, self._example, self._calibration
        )
        try:
            answer = await jobs.run(environment, job.to_json())
        except RouteFailed as error:
            return error
        if not destination.exists():
            return RouteFailed(f"{tool.function} ended without a result")
        return Converted(destination, answer["notes"])
