"""The folder that an export is: the artifact, export.json, a README; for pages, all that they load."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.export import example as examples
from gateway.export.external import weight_files
from gateway.export.jobs import Jobs, RouteFailed
from gateway.export.onnx_file import keep_padding
from gateway.export.page import write_page
from gateway.export.readme import readme
from gateway.export.report import Report
from gateway.export.source import Environments, Source, convert_job
from gateway.export.visit import run_page
from gateway.repository.scan import artifact_files

_NAMES = {"tflite": "model.tflite", "onnx": "model.onnx"}
_TAKEN = {"model.onnx", "export.json", "example.json", "README.md", "index.html", "lib", "page"}


def parts(format: str, artifact: Path) -> list[Path]:
    """All that the model is made of: its own file or folder, and the files of weights beside it. Raises RouteFailed."""
    if format == "onnx":
        return [artifact, *(artifact.parent / name for name in weight_files(artifact))]
    return [artifact] if format == "tfjs" else artifact_files(artifact)


async def place(
    format: str, artifact: Path, result: Path, source: Source, environments: Environments, jobs: Jobs
) -> Path:
    """The artifact in its place in the folder `result`: a file, or the folder itself. Raises RouteFailed."""
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
        await jobs.run(environment, job)
    elif format == "tfjs":
        shutil.copytree(artifact, result, dirs_exist_ok=True)
        return result
    else:
        shutil.copyfile(artifact, result / _NAMES[format])
        for name in weight_files(artifact):
            if name.split("/")[0] in _TAKEN:
                raise RouteFailed(
                    f"the model keeps weights in '{name}', which an export calls something else: rename that file"
                )
            (result / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact.parent / name, result / name)
        keep_padding(result / _NAMES[format])
    return result / _NAMES[format]


async def complete(
    result: Path,
    file: Path,
    format: str,
    source: Source,
    report: Report,
    example: Mapping[str, Any],
    environments: Environments,
) -> Report:
    """What stands beside the artifact. file: as place() gave it. Returns the report with what it says of a page.

    Raises RouteFailed where a page does not run.
    """
    (result / "example.json").write_text(examples.dump(example))
    if report.target in ("tfjs", "web"):
        name = "model.json" if file == result else file.name
        weights = weight_files(file) if format == "onnx" else ()
        web = await environments.get("export-web")
        backends = write_page(result, name, weights, format, source, report, web)
        # How WebGL computes is another thing on every machine.
        backend = next(each for each in backends if each != "webgl")
        report = replace(report, notes=[*report.notes, await run_page(result, backend)])
    (result / "export.json").write_text(report.json())
    (result / "README.md").write_text(readme(report, format, source))
    return report
