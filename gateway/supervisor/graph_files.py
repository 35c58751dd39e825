"""The files from which the console draws a model's graph: those of its artifact, or a translation of it."""

import asyncio
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.environments.builder import Builder
from gateway.errors import Unavailable
from gateway.export.errors import CannotExport
from gateway.export.jobs import Jobs
from gateway.export.routes import translation
from gateway.lifecycle.policy import State
from gateway.lifecycle.version import Version
from gateway.repository.artifact_files import list_files

log = logging.getLogger("console")

_TIMEOUT_S = 120.0
# Each is as large as its model.
_MAX_KEPT = 4


class GraphFiles:
    """Lists files, and keeps the last translations in a folder of the run directory."""

    def __init__(self, folder: Path, builder: Builder) -> None:
        self._folder = folder
        self._builder = builder
        self._translations: dict[str, asyncio.Task[Path]] = {}

    async def of(self, version: Version) -> dict[str, Any]:
        """Return what GetArtifact does. Raises ModelportError.

        If the runtime runs a translation of the file to ONNX, the graph is that one. Netron reads some of these formats
        itself, but only in part. A model is translated once it is served, because its worker, in its sandbox, has then
        read the same file.
        """
        config = version.config
        listed = await asyncio.to_thread(list_files, config)
        main, files = listed.main, {name: str(path) for name, path in listed.files.items()}
        assert config.artifact is not None
        runtime = config.artifact.runtime
        tool = translation(runtime.export_format(config.artifact.platform), runtime.name)
        if tool is not None and version.state is State.READY:
            main = f"{config.name}.onnx"
            files[main] = str(await self._translated(version, tool.function))
        return {
            "name": config.name,
            "version": config.version,
            "platform": listed.platform,
            "main": main,
            "files": files,
        }

    async def close(self) -> None:
        for task in self._translations.values():
            task.cancel()
        await asyncio.gather(*self._translations.values(), return_exceptions=True)

    async def _translated(self, version: Version, function: str) -> Path:
        name, key = version.config.name, version.config.fingerprint
        task = self._translations.get(key)
        if task is None or (task.done() and task.exception() is not None):
            for old in list(self._translations)[: max(0, len(self._translations) + 1 - _MAX_KEPT)]:
                self._translations.pop(old).cancel()
                shutil.rmtree(self._folder / old, ignore_errors=True)
            task = self._translations[key] = asyncio.create_task(self._translate(version, function))
        try:
            return await asyncio.shield(task)  # others may wait for it
        except (CannotExport, TimeoutError) as error:
            log.warning("model %s could not be translated for its graph: %s", name, error)
            raise Unavailable(f"model '{name}' could not be translated for its graph") from None

    async def _translate(self, version: Version, function: str) -> Path:
        artifact, toml = version.config.artifact, version.config.toml
        assert artifact is not None
        folder = self._folder / version.config.fingerprint
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        destination = folder / "model.onnx"
        job: Mapping[str, Any] = {
            "action": "convert",
            "folder": str(artifact.runtime.folder),
            "function": function,
            "source": str(artifact.path),
            "destination": str(destination),
            "inputs": [tensor.spec() for tensor in toml.inputs],
            "outputs": [tensor.spec() for tensor in toml.outputs],
            "signature": "",
            "shapes": {},
            "examples": [],
            "calibration": [],
            "options": {},
            "parameters": dict(toml.parameters),
        }
        environment = await self._builder.environment(artifact.runtime)
        async with asyncio.timeout(_TIMEOUT_S):
            await Jobs(folder, lambda line: None).run(environment, job, threads=1)
        return destination
