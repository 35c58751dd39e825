"""Reads the zip file that DL4J's ModelSerializer writes.

The file may be hostile: sizes are checked before anything is read or parsed, nothing is unpacked to disk, and no
entry's name becomes a path.
"""

import io
import itertools
import json
import re
import zipfile
from typing import Any, Dict, Iterable, List, NamedTuple, NoReturn, Tuple

import numpy as np

from runtimes.contract import LoadError

from .arrays import Bytes, read_array

# Parsed JSON needs up to thirty times the memory of its text. The largest networks have some hundred KiB.
_MAX_JSON = 8 << 20
_MAX_NORMALIZER = 8 << 20
_MAX_COEFFICIENTS = 16 << 30
_MAX_DEPTH = 64
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# The datatype of a network without parameters. Files from before 1.0.0-beta4 do not have it.
_DATATYPES = {"FLOAT": np.float32, "DOUBLE": np.float64, "HALF": np.float16}
# Weights hardly compress, and configurations compress to about a tenth. An entry that expands by more than this factor
# is a zip bomb, unless it is small anyway. JSON has the lower limit, since its objects cost more memory and time.
_MAX_EXPANSION, _SMALL_WEIGHTS, _SMALL_JSON = 100, 64 << 20, 1 << 20


class Archive(NamedTuple):
    """
    coefficients  all parameters in one dimension, in the file's datatype
    normalizer    b"" if the file has none
    """

    configuration: Dict[str, Any]
    coefficients: np.ndarray
    normalizer: bytes


def read(path: str) -> Archive:
    """Read a file. Raises LoadError if it is no such archive, is broken, or does not fit in memory."""
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            return _read(archive)
    except LoadError:
        raise
    except OSError as error:
        raise LoadError("the model's file cannot be read: %s" % (error.strerror or error)) from None
    except MemoryError:
        raise LoadError("the model does not fit in memory") from None
    except Exception as error:  # with a corrupted file, zipfile raises almost any type
        raise LoadError(
            "the file is not a readable zip archive (%s): save the model again" % type(error).__name__
        ) from None


def _read(archive: zipfile.ZipFile) -> Archive:
    entries: Dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename in entries:
            raise LoadError("the archive has the entry '%.60s' twice" % info.filename)
        entries[info.filename] = info
    if "configuration.json" not in entries:
        raise LoadError("the archive has no entry configuration.json, which DL4J's ModelSerializer writes")
    configuration = _json(_entry(archive, entries["configuration.json"], _MAX_JSON))
    if "coefficients.bin" in entries:
        source = Bytes(_entry(archive, entries["coefficients.bin"], _MAX_COEFFICIENTS), "coefficients.bin")
        coefficients = read_array(source)
        source.end()
        if coefficients.size > max((1, *coefficients.shape)):
            source.broken("its shape %s is not a single row of parameters" % list(coefficients.shape))
        coefficients = coefficients.reshape(-1)
    elif "noParams.marker" in entries:
        coefficients = np.zeros(0, _datatype(configuration.get("dataType")))
    else:
        raise LoadError("the archive has no entry coefficients.bin, which holds the parameters")
    normalizer = b""
    if "normalizer.bin" in entries:
        normalizer = _entry(archive, entries["normalizer.bin"], _MAX_NORMALIZER)
    return Archive(configuration, coefficients, normalizer)


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, max_size: int) -> bytes:
    if info.flag_bits & 1:
        raise LoadError("the archive's entry %s is encrypted" % info.filename)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise LoadError("the archive's entry %s is compressed in a way that DL4J does not write" % info.filename)
    # The directory can overstate the compressed size to allow more expansion, but not beyond the file's own length.
    compressed = min(info.compress_size, _length(archive))
    small = _SMALL_WEIGHTS if max_size == _MAX_COEFFICIENTS else _SMALL_JSON
    if info.file_size > min(max_size, max(small, _MAX_EXPANSION * compressed)):
        raise LoadError(
            "the archive's entry %s expands to %d bytes, which is too much" % (info.filename, info.file_size)
        )
    # zipfile stops at the size in the directory, however much the compressed data expands to, and then checks the CRC.
    with archive.open(info) as file:
        data = file.read(info.file_size)
        if len(data) != info.file_size or file.read(1):
            raise LoadError("the archive's entry %s is not as long as the archive says" % info.filename)
    return data


def _length(archive: zipfile.ZipFile) -> int:
    """Return the length of the whole file. This moves the file position, but reading an entry seeks to it first."""
    assert archive.fp is not None
    return archive.fp.seek(0, io.SEEK_END)


def _json(data: bytes) -> Dict[str, Any]:
    try:
        found = json.loads(data.decode(), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        _invalid("it is not JSON (%s)" % type(error).__name__)
    if not isinstance(found, dict):
        _invalid("it is not an object")
    level: List[Any] = [found]
    for _ in range(_MAX_DEPTH):
        # JSON can escape one half of a surrogate pair. Such a string cannot be encoded as UTF-8 later.
        if any(isinstance(each, str) and not each.isascii() and _LONE_SURROGATE.search(each) for each in level):
            _invalid("a string in it is not Unicode")
        level = [inner for each in level if isinstance(each, (dict, list)) for inner in _children(each)]
    if level:
        _invalid("it is nested deeper than %d" % _MAX_DEPTH)
    return found


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _invalid("an object in it has two fields of the same name")
    return found


def _datatype(name: Any) -> type:
    if name is None:
        return np.float32
    if not isinstance(name, str) or name not in _DATATYPES:
        _invalid("its dataType is %.40r, but must be one of %s" % (name, ", ".join(_DATATYPES)))
    return _DATATYPES[name]


def _children(value: Any) -> Iterable[Any]:
    return itertools.chain(value, value.values()) if isinstance(value, dict) else value


def _invalid(why: str) -> NoReturn:
    raise LoadError("configuration.json is not what DL4J writes: %s" % why)
