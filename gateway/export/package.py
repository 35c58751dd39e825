"""The folder that an export is: the artifact, export.json, a README; for pages, all that they load."""

import shutil
from pathlib import Path

from gateway.export.report import Report
from gateway.export.source import Environments, Source
from gateway.export.tasks import Tasks

_NAMES = {"tflite": "model.tflite", "onnx": "model.onnx"}


async def place(
    target: str, artifact: Path, result: Path, source: Source, environments: Environments, tasks: Tasks
) -> Path:
    """The artifact in its place in the folder `result`: a file, or the folder itself. Raises Failed."""
    if target == "tflite":
        environment = await environments.get("export-lite")
        job = {
            "do": "convert",
            "folder": str(environment.runtime.folder),
            "function": "add_metadata",
            "source": str(artifact),
            "destination": str(result / _NAMES[target]),
            "inputs": source.signature.inputs,
            "outputs": source.signature.outputs,
            "signature": source.key,
            "shapes": {},
            "examples": [],
            "calibration": [],
            "options": {
                "name": source.config.name,
                "version": source.config.version,
                "description": f"{source.config.name} version {source.config.version}, exported by modelport",
                "labels": source.config.class_labels,
            },
        }
        await tasks.run(environment, job)
    elif target == "tfjs":
        shutil.copytree(artifact, result, dirs_exist_ok=True)
        return result
    else:
        shutil.copyfile(artifact, result / _NAMES[target])
    return result / _NAMES[target]


async def complete(target: str, result: Path, source: Source, report: Report, environments: Environments) -> None:
    """What stands beside the artifact."""
    (result / "export.json").write_text(report.json())
