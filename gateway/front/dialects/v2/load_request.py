"""What a request to load a model brings: a configuration, and files that replace those of the repository."""

import asyncio
import base64
import binascii
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.domain.control import LoadModel
from gateway.domain.uploads import Uploads
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest, TooLarge, Unsupported, shorten

_FILE = "file:"
_MAX_FILES = 1000
_MAX_CONFIGURATION = 1 << 18  # real ones have a few KiB
_VERSION = re.compile("[1-9][0-9]{0,17}")
# Of a model that may not be in the repository. It becomes no part of a path, but should be possible as one.
_MODEL = re.compile(r"\w[\w.@+=-]{0,199}")
_MAX_NAME_BYTES = 255
_MAX_DEPTH = 100  # functions that create and delete folders call themselves for each one in another


async def load(engine: Engine, name: str, parameters: Mapping[str, Any]) -> None:
    """Load a model, with what the parameters bring. Raises ModelportError.

    parameters  "config": Triton's configuration, in JSON. "file:1/model.onnx", for example: bytes, or base64 in a str
    """
    configuration, files = _read(parameters)
    if configuration is None:
        await engine.control(LoadModel(name))
        return
    uploads = uploads_of(engine)
    if not files:
        await engine.control(LoadModel(name, configuration))
        return
    if not _MODEL.fullmatch(name):
        raise InvalidRequest(
            f"'{shorten(name)}' cannot be the name of a model that is sent; use letters, digits and _ . @ + = -"
        )
    folder = await asyncio.to_thread(_write, uploads, files)
    try:
        await engine.control(LoadModel(name, configuration, f"{folder.parent.name}/{folder.name}"))
    finally:
        # The supervisor has moved it, unless it did not get that far.
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def uploads_of(engine: Engine) -> Uploads:
    """Raises Unsupported if no request may bring anything."""
    if engine.uploads is None:
        raise Unsupported(
            "this server does not load what a request brings; put the model into its repository and edit its "
            "model.toml, or start the server with --allow-uploads"
        )
    return engine.uploads


def _read(parameters: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Return the configuration, and the contents of the files by path. Raises InvalidRequest."""
    files: dict[str, Any] = {}
    for key, value in parameters.items():
        if key.startswith(_FILE):
            if not isinstance(value, str | bytes):
                raise InvalidRequest(f"'{shorten(key)}' must be the content of a file, in base64")
            files[_checked_path(key.removeprefix(_FILE))] = value
        elif key != "config":
            raise InvalidRequest(
                f"there is no parameter '{shorten(key)}'; a load request may have 'config' and 'file:VERSION/NAME'"
            )
    if len(files) > _MAX_FILES:
        raise TooLarge(f"the request has {len(files)} files, over the limit of {_MAX_FILES}")
    configuration = parameters.get("config")
    if configuration is None and files:
        raise InvalidRequest("a request with files must also have 'config', which may be {}")
    if configuration is not None and not isinstance(configuration, str):
        raise InvalidRequest("'config' must be a string, which is a model configuration in JSON")
    if configuration is not None and len(configuration) > _MAX_CONFIGURATION:
        raise TooLarge(f"'config' has {len(configuration)} characters, over the limit of {_MAX_CONFIGURATION}")
    return configuration, files


def _checked_path(path: str) -> str:
    """Return the path, if it is that of a file in a version's folder. Raises InvalidRequest."""
    version, *parts = path.split("/")
    is_plain = all(part and not part.startswith(".") and "\\" not in part and part.isprintable() for part in parts)
    fits = is_plain and len(parts) <= _MAX_DEPTH and _longest(parts) <= _MAX_NAME_BYTES
    if not _VERSION.fullmatch(version) or not parts or not fits:
        raise InvalidRequest(
            f"'{_FILE}{shorten(path)}' does not name a file in a version of the model; use {_FILE}VERSION/NAME, such "
            f"as {_FILE}1/model.onnx"
        )
    return path


def _longest(parts: list[str]) -> int:
    return max((len(part.encode()) for part in parts), default=0)


def _write(uploads: Uploads, files: Mapping[str, str | bytes]) -> Path:
    """Write the files into a new folder, and return it. Raises InvalidRequest, TooLarge."""
    uploads.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=uploads.folder))
    try:
        left = uploads.max_bytes
        for path, value in files.items():
            content = value if isinstance(value, bytes) else _decoded(path, value)
            left -= len(content)
            if left < 0:
                raise TooLarge(f"the files are over the limit of {uploads.max_bytes} bytes for a load request")
            file = folder / path
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                raise InvalidRequest(f"'{_FILE}{shorten(path)}' is both a file and a folder in the request") from None
            except OSError as error:
                raise TooLarge(f"'{_FILE}{shorten(path)}' cannot be stored: {error.strerror}") from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _decoded(path: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"'{_FILE}{shorten(path)}' is not base64") from None
