"""`modelport push`: sends a model's files to a running gateway, waits until it serves them, and says how to call it."""

import base64
import json
import math
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from gateway.commands import http_client
from gateway.commands.connection import KEY_VARIABLE, Connection
from gateway.commands.http_client import CommandError, Request, model_path
from gateway.contents.names import is_foreign
from gateway.environments.runtime import Runtime, discover
from gateway.repository.artifact_files import artifact_files
from gateway.repository.errors import UnknownFormat
from gateway.repository.formats import Artifact, identify
from gateway.repository.model_folder import is_version
from gateway.repository.scan import is_model_folder

_BLOCK = 3 << 18  # bytes; a multiple of 3, so that base64 of all blocks can be joined
_LOADING_S = 3600  # an environment may have to be built
_MAX_VALUES = 64  # of an input, in the line for curl


def push(connection: Connection, model: str, path: Path, version: str, config: Path | None) -> int:
    """Run the command. Return the exit code."""
    return http_client.run(connection, lambda: _push(connection, model, path, version, config))


def _push(connection: Connection, model: str, path: Path, version: str, config: Path | None) -> int:
    """Raises CommandError, URLError."""
    try:
        files = collect(path, version)
        sizes = {name: file.stat().st_size for name, file in files.items()}
        configuration = _configuration(path, config)
    except OSError as error:
        raise CommandError(f"{error.filename or path} cannot be read: {error.strerror}", 2) from None
    load = f"/v2/repository/models{model_path(model, '')}/load"
    _, answer = http_client.send(connection, load)  # before much is sent, what is allowed
    limit, total = json.loads(answer)["max_bytes"], sum(sizes.values())
    if not limit:
        raise CommandError(f"the gateway at {connection.url} does not accept models; start it with --allow-uploads")
    if total > limit:
        raise CommandError(f"{path} has {total} bytes, over the gateway's limit of {limit}; see max_upload_bytes")
    length = sum(map(len, _parts(configuration, files, lambda name: ()))) + sum(map(_encoded, sizes.values()))
    out = Console(highlight=False, soft_wrap=True)
    with _progress(total) as advance:
        body = _parts(configuration, files, lambda name: _blocks(files[name], sizes[name], advance))
        http_client.send(connection, load, Request(body, "application/json", "", length), _LOADING_S)
    out.print(f"sent {len(files)} file{'s'[: len(files) != 1]}, {total} bytes")
    _, metadata = http_client.send(connection, "/v2/models" + model_path(model, ""))
    _describe(out, connection, model, json.loads(metadata))
    return 0


def collect(path: Path, version: str = "1") -> dict[str, Path]:
    """Return the files to send, by their names in a model's folder. Raises CommandError, OSError.

    path     an artifact, whose weights are sent as well, a folder with one, or a model's folder
    version  of an artifact
    """
    path = path.absolute()
    if not path.is_dir():
        runtimes = discover()
        artifact = _artifact(path, runtimes)
        if artifact is None or artifact.archive or not artifact.runtime.model_requirements:
            neighbors = [file for file in artifact_files(path) if file == path or _artifact(file, runtimes) is None]
            return {f"{version}/{file.relative_to(path.parent).as_posix()}": file for file in neighbors}
        path = path.parent  # a program, with its modules and requirements.txt
    if not is_model_folder(path):
        found = {f"{version}/{name}": file for name, file in _files(path)}
    elif (path / "model.toml").exists():
        raise CommandError(
            f"{path} has a model.toml, which cannot be sent; push the folder of a version, and name a config.pbtxt "
            "with --config if the model needs one",
            2,
        )
    else:
        found = {name: file for name, file in _files(path) if "/" in name and is_version(name.partition("/")[0])}
    if not found:
        raise CommandError(f"{path} has no files to send", 2)
    return found


def _artifact(file: Path, runtimes: Mapping[str, Runtime]) -> Artifact | None:
    """Return the artifact that a file is for the runtimes of this machine. The gateway may have others."""
    try:
        return identify(file, runtimes)
    except UnknownFormat:
        return None


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files in a folder, by their paths in it."""
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if file.is_file() and not any(map(is_foreign, name.parts)):
            yield name.as_posix(), file


def _configuration(path: Path, config: Path | None) -> str:
    """Return Triton's configuration in JSON, from a file of either form. Raises CommandError, OSError."""
    file = config or path / "config.pbtxt"
    if config is None and not (path.is_dir() and file.is_file()):
        return "{}"
    text = file.read_text("utf-8-sig")
    if text.lstrip().startswith("{"):
        return text
    from google.protobuf import json_format, text_format  # takes long to import

    from gateway.generated import model_config_pb2 as pb

    try:
        message = text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as error:
        raise CommandError(f"{file} is not a model configuration: {' '.join(str(error).split())}", 2) from None
    message.name = ""  # the gateway's name for the model may be another one
    return json.dumps(json_format.MessageToDict(message, preserving_proto_field_name=True))


def _parts(
    configuration: str, files: Iterable[str], content: Callable[[str], Iterator[bytes] | tuple[()]]
) -> Iterator[bytes]:
    """Yield the request's body. `content` returns that of a file, in base64."""
    yield b'{"parameters": {"config": ' + json.dumps(configuration).encode()
    for name in files:
        yield b", " + json.dumps("file:" + name).encode() + b': "'
        yield from content(name)
        yield b'"'
    yield b"}}"


def _blocks(file: Path, size: int, advance: Callable[[int], None]) -> Iterator[bytes]:
    """Yield a file in base64. Raises CommandError if it has not the size that the request announces."""
    left = size
    try:
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                left -= len(block)
                if left < 0:
                    break
                yield base64.b64encode(block)
                advance(len(block))
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}", 2) from None
    if left:
        raise CommandError(f"{file} has changed while it was being sent; push it again")


def _encoded(size: int) -> int:
    return 4 * math.ceil(size / 3)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show how much was sent, on a terminal. Yields a function that is called with numbers of bytes."""
    if not sys.stderr.isatty():
        yield lambda size: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("sending", total=total)

        def advance(size: int) -> None:
            progress.update(task, advance=size)
            if progress.tasks[0].finished:
                progress.update(task, description="loading")

        yield advance


def _describe(out: Console, connection: Connection, model: str, metadata: Mapping[str, Any]) -> None:
    """Print what is served now, and how to call it."""
    out.print(f"{model} version {', '.join(metadata['versions'])} is READY, by {metadata['platform']}")
    for kind in ("inputs", "outputs"):
        for each in metadata[kind]:
            datatype = each["datatype"] or "unknown until the first request,"
            out.print(f"  {kind[:-1]:6} {each['name']}: {datatype} {each['shape']}", markup=False)
    out.print("it is served until it is loaded again or unloaded, or the gateway ends")
    out.print("\n" + curl(connection, model, metadata["inputs"]), markup=False)


def curl(connection: Connection, model: str, inputs: list[dict[str, Any]]) -> str:
    """Return a line for a shell that sends a request to the model, with zeros; with a file if they are too many."""
    words = ["curl"]
    if connection.api_key:
        words += ["-H", f"Authorization: Bearer ${KEY_VARIABLE}"]
    if connection.ca is not None:
        words += ["--cacert", str(connection.ca)]
    shapes = [[max(size, 1) for size in each["shape"]] for each in inputs]
    url, path = connection.url.rstrip("/"), model_path(model, "")
    is_known = all(each["datatype"] for each in inputs)
    if is_known and all(math.prod(shape) <= _MAX_VALUES for shape in shapes):
        tensors = [
            {**each, "shape": shape, "data": [_zero(each["datatype"])] * math.prod(shape)}
            for each, shape in zip(inputs, shapes, strict=True)
        ]
        words += [f"{url}/v2/models{path}/infer", "-d", json.dumps({"inputs": tensors})]
    elif len(inputs) == 1:
        words += [f"{url}/predict{path}", "-H", "Content-Type: application/x-npy", "--data-binary", "@input.npy"]
    else:
        words += [f"{url}/v2/models{path}"]
    return " ".join(f'"{word}"' if f"${KEY_VARIABLE}" in word else shlex.quote(word) for word in words)


def _zero(datatype: str) -> Any:
    return {"BYTES": "", "BOOL": False}.get(datatype, 0)
