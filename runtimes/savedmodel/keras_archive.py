"""Checks .keras and .h5 files, which may be hostile, before Keras reads them, and finds the version that wrote them."""

import re
import zipfile
from typing import Any, BinaryIO, Dict, NamedTuple

import h5py

from runtimes.contract import LoadError

from .keras_config import MAX_CONFIG, parse

_WEIGHTS = "model.weights.h5"
_ENTRIES = (_WEIGHTS, "model.weights.npz", "config.json", "metadata.json")
# Weights hardly compress.
_MAX_EXPANSION, _SMALL = 100, 64 << 20


class Description(NamedTuple):
    """
    version  of the Keras that wrote the file, "" if the file does not say
    major    the first number of that
    config   of the model
    """

    version: str
    major: int
    config: Dict[str, Any]


def read_keras_archive(file: BinaryIO) -> Description:
    """Check a .keras file: a zip archive. Raises LoadError."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = _check_entries(archive)
            if "config.json" not in names:
                raise LoadError("the archive has no entry config.json, which model.save of Keras writes")
            config = parse(_text(archive, "config.json"), has_assets=True)
            version = ""
            if "metadata.json" in names:
                found = re.search(r'"keras_version"\s*:\s*"([^"]{1,40})"', _text(archive, "metadata.json"))
                version = found[1] if found else ""
            description = _description(version, 3, config)
            if description.major < 3 and _WEIGHTS in names:
                with archive.open(_WEIGHTS) as weights, h5py.File(weights, "r") as group:
                    _check_links(group)
            return description
    except LoadError:
        raise
    except MemoryError:
        raise LoadError("the model does not fit in memory") from None
    except Exception as error:  # with a corrupted file, zipfile raises almost any type
        raise LoadError(
            "the file is not a readable .keras archive (%s): save the model again" % type(error).__name__
        ) from None


def read_keras_h5(path: str) -> Description:
    """Check an .h5 file. Raises LoadError."""
    try:
        with h5py.File(path, "r") as file:
            _check_links(file)
            text = _attribute(file, "model_config")
            if not text:
                raise LoadError(
                    "this file holds weights alone, without the model that they belong to: save the whole model with "
                    "model.save"
                )
            config = parse(text, has_assets=False)
            if "model_weights" not in file:
                raise LoadError("the file has no group model_weights, which model.save writes")
            return _description(_attribute(file, "keras_version"), 1, config)
    except LoadError:
        raise
    except MemoryError:
        raise LoadError("the model does not fit in memory") from None
    except Exception as error:  # h5py raises OSError, KeyError, RuntimeError and more for corrupted files
        raise LoadError(
            "the file is not a readable HDF5 file (%s): save the model again" % type(error).__name__
        ) from None


def _description(version: str, default: int, config: Dict[str, Any]) -> Description:
    major = re.match(r"(\d+)\.", version)
    return Description(version, int(major[1]) if major else default, config)


def _check_entries(archive: zipfile.ZipFile) -> "set[str]":
    names: "set[str]" = set()
    for info in archive.infolist():
        name = info.filename
        known = name in _ENTRIES or name.startswith("assets/")
        if not known or "\\" in name or ".." in name.split("/") or (info.external_attr >> 28) == 0xA:
            raise LoadError("the archive has the entry '%.60s', which Keras does not write" % name)
        if name in names:
            raise LoadError("the archive has the entry '%.60s' twice" % name)
        if info.flag_bits & 1:
            raise LoadError("the archive's entry '%.60s' is encrypted" % name)
        if info.file_size > max(_SMALL, _MAX_EXPANSION * info.compress_size):
            raise LoadError(
                "the archive's entry '%.60s' expands to %d bytes, which is too much" % (name, info.file_size)
            )
        names.add(name)
    return names


def _text(archive: zipfile.ZipFile, name: str) -> str:
    if archive.getinfo(name).file_size > MAX_CONFIG:
        raise LoadError("the archive's entry %s has more than %d MiB" % (name, MAX_CONFIG >> 20))
    return archive.read(name).decode()


def _attribute(file: Any, name: str) -> str:
    value = file.attrs.get(name, "")
    return value.decode() if isinstance(value, bytes) else str(value)


def _check_links(group: Any) -> None:
    """Raise LoadError if a file contains links, or data that is in other files or far larger than the file."""
    stack, seen = [group], set()
    while stack:
        for name, item in _items(stack.pop()):
            if item.id in seen:
                continue
            seen.add(item.id)
            if isinstance(item, h5py.Group):
                stack.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise LoadError("the data of '%.60s' is in another file; save the model in a single file" % name)
                if item.nbytes > max(_SMALL, _MAX_EXPANSION * item.id.get_storage_size()):
                    raise LoadError("'%.60s' expands to %d bytes, which is too much" % (name, item.nbytes))


def _items(group: Any) -> Any:
    for name in group:
        if group.get(name, getclass=True, getlink=True) is not h5py.HardLink:
            raise LoadError("'%.60s' in the file is a link, which Keras does not write" % name)
        yield name, group[name]
