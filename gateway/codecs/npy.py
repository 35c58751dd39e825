"""numpy's own files, as bodies: .npy for one tensor, .npz (a zip of them) for several by name.

Nothing is unpickled, and no header is believed before the bytes are there: numpy's own reader
would first allocate what the header claims.
"""

import io
import zipfile
import zlib
from collections.abc import Iterable
from math import prod

import numpy as np

from gateway.domain.tensor_checks import check_shape, check_strings
from gateway.errors import InvalidRequest, TooLarge
from runtimes.contract import datatype_of
from runtimes.tensors import Buffer, Tensor, from_array, to_array

NPY, NPZ = "application/x-npy", "application/x-npz"

# Each file in a zip costs at least a record with this mark, and reading one costs microseconds.
_RECORD, _MAX_FILES = b"PK\x01\x02", 1024
_MAX_HEADER_LENGTH = 10_000


def read_npy(name: str, data: Buffer) -> Tensor:
    """The array as the input's tensor. Raises InvalidRequest."""
    stream = io.BytesIO(memoryview(data)[: 2 * _MAX_HEADER_LENGTH])
    try:
        major = np.lib.format.read_magic(stream)[0]
        read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream, max_header_size=_MAX_HEADER_LENGTH)
    except Exception:  # the header is parsed as Python's literals, in more ways to fail than one would list
        raise InvalidRequest(f"input '{name}' is not a valid npy file; write it with numpy.save") from None
    check_shape(name, shape)
    if dtype.kind not in "biufSU" or dtype.hasobject or dtype.itemsize == 0:
        raise InvalidRequest(f"the npy file for input '{name}' holds {_told(dtype)}; save numbers, booleans or strings")
    body, wanted = memoryview(data)[stream.tell() :], prod(shape) * dtype.itemsize
    if len(body) != wanted:
        raise InvalidRequest(
            f"the npy file for input '{name}' has {len(body)} bytes of data, but its header takes {wanted}"
        )
    if dtype.kind in "SU":
        check_strings(name, prod(shape))
    return _tensor(name, body, shape, fortran, dtype)


def read_npz(data: bytes, most_bytes: int) -> list[Tensor]:
    """One tensor per file in the zip. Raises InvalidRequest; TooLarge when it would unpack to more."""
    if data.count(_RECORD) > _MAX_FILES:
        raise InvalidRequest(f"the npz file holds more than {_MAX_FILES} arrays")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = archive.infolist()
            size = sum(file.file_size for file in files)
            if size > most_bytes:
                raise TooLarge(f"the npz file unpacks to {size} bytes, over the limit of {most_bytes}; send fewer rows")
            if any(file.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for file in files):
                raise InvalidRequest("the npz file is compressed in an unusual way; write it with numpy.savez")
            # `read` stops at the size that the directory claims, so a lying one cannot unpack to more.
            return [read_npy(file.filename.removesuffix(".npy"), archive.read(file)) for file in files]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, NotImplementedError):
        raise InvalidRequest("the body is not a valid npz file; write it with numpy.savez") from None


def write_npy(tensor: Tensor) -> bytes:
    """Raises InvalidRequest for strings that are not text: numpy would have to pickle them."""
    array = to_array(tensor)
    if tensor.datatype == "BYTES":
        try:
            array = np.array([element.decode() for element in array.ravel()], dtype=np.str_).reshape(array.shape)
        except UnicodeDecodeError:
            raise InvalidRequest(f"output '{tensor.name}' holds bytes that npy cannot carry; ask for JSON") from None
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=False)
    return stream.getvalue()


def write_npz(tensors: Iterable[Tensor]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for tensor in tensors:
            archive.writestr(tensor.name + ".npy", write_npy(tensor))
    return stream.getvalue()


def _tensor(name: str, body: memoryview, shape: tuple[int, ...], fortran: bool, dtype: np.dtype) -> Tensor:
    try:
        array = np.frombuffer(body, dtype=dtype) if len(body) else np.empty(prod(shape), dtype=dtype)
        array = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
        if dtype.kind in "SU":
            array = array.astype(object)
        datatype_of(array.dtype)
        return from_array(name, array)
    except KeyError:
        raise InvalidRequest(f"the npy file for input '{name}' holds {_told(dtype)}, which is not served") from None
    except ValueError:  # a size beyond memory beside one of 0, or text that is not Unicode
        raise InvalidRequest(f"the npy file for input '{name}' holds what no array can") from None


def _told(dtype: np.dtype) -> str:
    if dtype.hasobject:
        return "Python objects"
    return "records" if dtype.fields or dtype.subdtype else dtype.name
