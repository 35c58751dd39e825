"""The folder that an export is: the artifact, export.json, a README; for pages, all that they load."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.export import example as examples
from gateway.export.page import write_page
from gateway.export.readme import readme
from gateway.export.report import Report
from gateway.export.source import Environments, Source, convert_job
from gateway.export.tasks import Tasks
from gateway.repository.scan import artifact_files

_NAMES = {"tflite": "model.tflite", "onnx": "model.onnx"}


async def place(
    format: str, artifact: Path, result: Path, source: Source, environments: Environments, tasks: Tasks
) -> Path:
    """The artifact in its place in the folder `result`: a file, or the folder itself. Raises Failed."""
    if format == "tflite":
        environment = await environments.get("export-lite")
        options = {
            "name": source.config.name,
            "version": source.config.version,
            "description": f"{source.config.name} version {source.config.version}, exported by modelport",
            "labels": source.config.class_labels,
        }
        named = result / _NAMES[format]
        job = convert_job("add_metadata", environment, source, artifact, named, options)
        await tasks.run(environment, job)
    elif format == "tfjs":
        shutil.copytree(artifact, result, dirs_exist_ok=True)
        return result
    else:
        shutil.copyfile(artifact, result / _NAMES[format])
        for part in artifact_files(artifact):  # weights in files of their own, which it names
            if part != artifact and part.is_file():
                shutil.copyfile(part, result / part.name)
    return result / _NAMES[format]


async def complete(
    result: Path,
    file: Path,
    format: str,
    source: Source,
    report: Report,
    example: Mapping[str, Any],
    environments: Environments,
) -> None:
    """What stands beside the artifact. file: as place() gave it."""
    (result / "export.json").write_text(report.json())
    (result / "example.json").write_text(examples.dump(example))
    (result / "README.md").write_text(readme(report, format, source))
    if report.target in ("tfjs", "web"):
        name = "model.json" if file == result else file.name
        write_page(result, name, format, source, report, await environments.get("export-web"))
