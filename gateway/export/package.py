"""Writes the folder of an export: the artifact, export.json, a README, and a page with all files that it loads."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.export import example as examples
from gateway.export.conversion import ConversionJob
from gateway.export.external import weight_files
from gateway.export.folder import ExportFolder
from gateway.export.jobs import RouteFailed
from gateway.export.onnx_file import keep_padding
from gateway.export.page import write_page
from gateway.export.readme import readme
from gateway.export.report import Report
from gateway.export.source import Source
from gateway.export.visit import run_page
from gateway.export.workspace import Environments, Workspace

_NAMES = {"tflite": "model.tflite", "onnx": "model.onnx", "executorch": "model.pte"}
_RESERVED = {"model.onnx", "export.json", "example.json", "README.md", "index.html", "lib", "page"}


async def place(model_format: str, artifact: Path, path: Path, source: Source, workspace: Workspace) -> ExportFolder:
    """Put the artifact into the export's folder `path`. Raises RouteFailed."""
    if model_format == "tfjs":
        shutil.copytree(artifact, path, dirs_exist_ok=True)
        return ExportFolder(path, path, model_format, source)
    model = path / _NAMES[model_format]
    if model_format == "tflite":
        await _add_metadata(artifact, model, source, workspace)
    elif model_format == "executorch":
        shutil.copyfile(artifact, model)
    else:
        _copy_onnx(artifact, model)
    return ExportFolder(path, model, model_format, source)


async def _add_metadata(artifact: Path, model: Path, source: Source, workspace: Workspace) -> None:
    environment = await workspace.environments.get("export-lite")
    options = {
        "name": source.config.name,
        "version": source.config.version,
        "description": f"{source.config.name} version {source.config.version}, exported by modelport",
        "labels": source.config.labels_of(source.signature),
    }
    job = ConversionJob("add_metadata", environment, source, artifact, model, options)
    await workspace.jobs.run(environment, job.to_json())


def _copy_onnx(artifact: Path, model: Path) -> None:
    shutil.copyfile(artifact, model)
    for name in weight_files(artifact):
        if name.split("/")[0] in _RESERVED:
            raise RouteFailed(
                f"the model keeps weights in '{name}', a name that exports use themselves: rename that file"
            )
        (model.parent / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.parent / name, model.parent / name)
    keep_padding(model)


async def complete(
    folder: ExportFolder, report: Report, example: Mapping[str, Any], environments: Environments
) -> Report:
    """Write the files next to the artifact. Return the report, with a note about the page if there is one.

    Raises RouteFailed if the page does not run.
    """
    (folder.path / "example.json").write_text(examples.dump(example))
    if report.target in ("tfjs", "web"):
        backends = write_page(folder, report, await environments.get("export-web"))
        # Not webgl, whose results depend on the machine's GPU and driver.
        backend = next(each for each in backends if each != "webgl")
        report = replace(report, notes=[*report.notes, await run_page(folder.path, backend)])
    (folder.path / "export.json").write_text(report.json())
    (folder.path / "README.md").write_text(readme(report, folder.model_format, folder.source))
    return report
