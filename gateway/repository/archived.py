"""Finds the artifact that an archive contains: a .mar, or a model.tar.gz as SageMaker has them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.contents.errors import StoreError
from gateway.contents.names import is_foreign
from gateway.repository.archives import unpacked
from gateway.repository.errors import UnknownFormat
from gateway.repository.handler import REQUIREMENTS, SAGEMAKER, BrokenArchive, Handler, extras_of
from gateway.repository.mar import Archive, is_model_archive, read_model_archive

if TYPE_CHECKING:
    from gateway.repository.formats import Artifact

# Returns the artifact at a path, which is that of a framework, or always a program. Raises UnknownFormat.
Identify = Callable[[Path], "Artifact"]
# TensorFlow's containers have export/Servo/1/saved_model.pb.
_MAX_DEPTH = 4
_CODE = "code"
_INFERENCE = f"{_CODE}/inference.py"


def find_in_file(file: Path, identify: Identify, identify_program: Identify) -> "Artifact":
    """Return the artifact in an archive, which is unpacked. Raises UnknownFormat, OSError.

    identify          returns artifacts of frameworks
    identify_program  returns the handler of an archive, as an artifact of the runtime that runs it
    """
    try:
        folder = unpacked(file)
    except StoreError as error:
        raise UnknownFormat(f"'{file.name}' cannot be opened: {error}") from None
    if is_model_archive(folder):
        return find_in_model_archive(folder, identify, identify_program)
    try:
        archive = _of_sagemaker(folder)
    except BrokenArchive as error:
        raise UnknownFormat(str(error)) from None
    try:
        return _find_below(folder, identify, _MAX_DEPTH)._replace(archive=archive)
    except UnknownFormat:
        if archive.handler is None:
            raise
        return _handled(archive, archive.handler, identify_program)


def _of_sagemaker(folder: Path) -> Archive:
    """Raises BrokenArchive."""
    if (folder / _INFERENCE).is_file():
        requirements = f"{_CODE}/{REQUIREMENTS}" if (folder / _CODE / REQUIREMENTS).is_file() else ""
        handler = Handler(_INFERENCE, _INFERENCE, extras_of(folder, SAGEMAKER, ""), requirements)
        return Archive(folder, handler=handler, warning=handler.not_run)
    programs = sorted(each.relative_to(folder).as_posix() for each in folder.glob(f"**/{_CODE}/*.py"))
    warning = f"its {programs[0]} is a program, which is not run: requests are for the model itself" if programs else ""
    return Archive(folder, warning=warning)


def _handled(archive: Archive, handler: Handler, identify_program: Identify) -> "Artifact":
    """Return the artifact of an archive whose handler is run. Raises UnknownFormat if no runtime for it may be used."""
    return identify_program(archive.folder / handler.file)._replace(archive=archive.served_by(handler))


def _with_alternative(archive: Archive, handler: Handler, identify: Identify) -> Handler:
    """Return the handler with the runtime that could serve the model without it."""
    if archive.is_eager or not archive.file:
        return handler
    try:
        return handler._replace(alternative=identify(archive.folder / archive.file).runtime.installed_name)
    except UnknownFormat:
        return handler


def find_in_model_archive(folder: Path, identify: Identify, identify_program: Identify) -> "Artifact":
    """Return the artifact in a folder with a manifest, such as an unpacked .mar. Raises UnknownFormat, OSError."""
    try:
        archive = read_model_archive(folder)
    except BrokenArchive as error:
        raise UnknownFormat(str(error)) from None
    if archive.handler and archive.needs_handler:
        try:
            return _handled(archive, _with_alternative(archive, archive.handler, identify), identify_program)
        except UnknownFormat:  # model.toml names another runtime, which is to serve the model alone
            if archive.is_eager or not archive.file:
                raise UnknownFormat(
                    f"only its handler {archive.handler.name} can load its model: remove runtime from model.toml, or "
                    "archive a TorchScript model (torch.jit.script)"
                ) from None
    try:
        artifact = identify(folder / archive.file) if archive.file else _find_below(folder, identify, 0)
    except UnknownFormat:
        if archive.handler and not archive.needs_handler:
            return _handled(archive, archive.handler, identify_program)
        # Its other files, such as signature.json, are none of a model, whatever else they look like.
        if not archive.file and not any(folder.glob("*-symbol.json")):
            raise UnknownFormat("it holds no model that a runtime reads, such as NAME-symbol.json of MXNet") from None
        raise
    if archive.file and not artifact.is_undeclared:
        return artifact._replace(archive=archive)
    return artifact._replace(archive=archive, inputs=archive.inputs, outputs=archive.outputs)


def _find_below(folder: Path, identify: Identify, depth: int) -> "Artifact":
    """Return the artifact in a folder or, if it has none, in the folders below: the newest of several versions."""
    try:
        return identify(folder)
    except UnknownFormat as error:
        problem = error
    found = {}
    for each in sorted(folder.iterdir()) if depth else ():
        if each.is_dir() and not is_foreign(each.name) and each.name != _CODE:
            try:
                found[each.name] = _find_below(each, identify, depth - 1)
            except UnknownFormat:
                continue  # the problem of the folder above is reported
    if len(found) > 1 and all(name.isascii() and name.isdigit() for name in found):
        found = {"": found[max(found, key=int)]}
    if len(found) > 1:
        raise UnknownFormat(f"it holds several models, in {', '.join(found)}; keep one")
    if not found:
        raise problem
    return next(iter(found.values()))
