"""The zip that DL4J's ModelSerializer writes. Nothing of it is unpacked to disk, and no entry's name is a path here."""

import io
import itertools
import json
import re
import zipfile
from typing import Any, Dict, Iterable, List, NamedTuple, NoReturn, Tuple

import numpy as np

from runtimes.contract import LoadError

from .arrays import Bytes, read_array

# What it becomes takes up to thirty times as much memory. The largest networks have some hundred KiB.
_MAX_JSON = 8 << 20
_MAX_NORMALIZER = 8 << 20
_MAX_COEFFICIENTS = 16 << 30
_MAX_DEPTH = 64
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
# What a network without parameters computes in. Before 1.0.0-beta4 the file did not tell.
_DATATYPES = {"FLOAT": np.float32, "DOUBLE": np.float64, "HALF": np.float16}
# Weights hardly compress, and configurations by some ten times. What grows more than this beyond some size is made
# to take memory, or time: objects take more of it than weights.
_MAX_GROWTH, _GROWTH_BEYOND, _OBJECTS_BEYOND = 100, 64 << 20, 1 << 20


class Archive(NamedTuple):
    """coefficients: all parameters in a row, of the file's datatype; normalizer: b"" where there is none."""

    configuration: Dict[str, Any]
    coefficients: np.ndarray
    normalizer: bytes


def read(path: str) -> Archive:
    """Raises LoadError for what is no such file, or is broken, or would fill memory."""
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            return _read(archive)
    except LoadError:
        raise
    except OSError as error:
        raise LoadError("the model's file cannot be read: %s" % (error.strerror or error)) from None
    except MemoryError:
        raise LoadError("the model does not fit in memory") from None
    except Exception as error:  # zipfile raises whatever a broken byte leads it to
        raise LoadError(
            "the file is no readable zip archive (%s): save the model again" % type(error).__name__
        ) from None


def _read(archive: zipfile.ZipFile) -> Archive:
    entries: Dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename in entries:
            raise LoadError("the archive holds the entry '%.60s' twice" % info.filename)
        entries[info.filename] = info
    if "configuration.json" not in entries:
        raise LoadError("the archive has no entry configuration.json, which DL4J's ModelSerializer writes")
    configuration = _json(_entry(archive, entries["configuration.json"], _MAX_JSON))
    if "coefficients.bin" in entries:
        source = Bytes(_entry(archive, entries["coefficients.bin"], _MAX_COEFFICIENTS), "coefficients.bin")
        coefficients = read_array(source)
        source.end()
        if coefficients.size > max((1, *coefficients.shape)):
            source.broken("it holds no row of parameters but the shape %s" % list(coefficients.shape))
        coefficients = coefficients.reshape(-1)
    elif "noParams.marker" in entries:
        coefficients = np.zeros(0, _datatype(configuration.get("dataType")))
    else:
        raise LoadError("the archive has no entry coefficients.bin, so that it holds no parameters")
    normalizer = b""
    if "normalizer.bin" in entries:
        normalizer = _entry(archive, entries["normalizer.bin"], _MAX_NORMALIZER)
    return Archive(configuration, coefficients, normalizer)


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    if info.flag_bits & 1:
        raise LoadError("the archive's entry %s is encrypted" % info.filename)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise LoadError("the archive's entry %s is compressed in a way that DL4J does not write" % info.filename)
    compressed = min(info.compress_size, _length(archive))  # which the directory can overstate
    beyond = _GROWTH_BEYOND if most == _MAX_COEFFICIENTS else _OBJECTS_BEYOND
    if info.file_size > min(most, max(beyond, _MAX_GROWTH * compressed)):
        raise LoadError("the archive's entry %s grows to %d bytes, which is too much" % (info.filename, info.file_size))
    # Reading ends where the directory says, whatever the compressed data holds, and then checks its sum.
    with archive.open(info) as file:
        data = file.read(info.file_size)
        if len(data) != info.file_size or file.read(1):
            raise LoadError("the archive's entry %s is not as long as the archive says" % info.filename)
    return data


def _length(archive: zipfile.ZipFile) -> int:
    """Of the whole file. Reading an entry seeks to where it begins."""
    assert archive.fp is not None
    return archive.fp.seek(0, io.SEEK_END)


def _json(data: bytes) -> Dict[str, Any]:
    try:
        found = json.loads(data.decode(), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        _no_configuration("it is not JSON (%s)" % type(error).__name__)
    if not isinstance(found, dict):
        _no_configuration("it is no object")
    level: List[Any] = [found]
    for _ in range(_MAX_DEPTH):
        # Half of a surrogate pair, which JSON can escape, is no character.
        if any(isinstance(each, str) and not each.isascii() and _HALF_A_PAIR.search(each) for each in level):
            _no_configuration("a text in it is not Unicode")
        level = [inner for each in level if isinstance(each, (dict, list)) for inner in _within(each)]
    if level:
        _no_configuration("it is nested deeper than %d" % _MAX_DEPTH)
    return found


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _no_configuration("an object in it has two fields of one name")
    return found


def _datatype(name: Any) -> type:
    if name is None:
        return np.float32
    if not isinstance(name, str) or name not in _DATATYPES:
        _no_configuration("its dataType is %.40r, where %s are known" % (name, ", ".join(_DATATYPES)))
    return _DATATYPES[name]


def _within(value: Any) -> Iterable[Any]:
    return itertools.chain(value, value.values()) if isinstance(value, dict) else value


def _no_configuration(why: str) -> NoReturn:
    raise LoadError("configuration.json is not what DL4J writes: %s" % why)
