"""Reads and writes numpy's file formats: .npy for one tensor, .npz (a zip of .npy files) for several by name.

Nothing is unpickled. The size in a header is compared with the bytes that are there, because numpy's own reader would
allocate that size first.
"""

import io
import zlib
from collections.abc import Iterable
from math import prod

import numpy as np

from gateway.domain.tensor_checks import check_shape, check_strings
from gateway.errors import InvalidRequest, TooLarge
from runtimes.contract import DATATYPES, datatype_of
from runtimes.tensors import Buffer, Tensor, from_array, to_array

NPY, NPZ = "application/x-npy", "application/x-npz"

# In the directory of a zip, each file has a record that starts with this mark. The records are counted before zipfile
# parses them, because that takes microseconds for each.
_RECORD, _MAX_FILES = b"PK\x01\x02", 1024
_MAX_HEADER_LENGTH = 10_000


def read_npy(name: str, data: Buffer) -> Tensor:
    """Read an array as the tensor of an input. Raises InvalidRequest."""
    stream = io.BytesIO(memoryview(data)[: 2 * _MAX_HEADER_LENGTH])
    try:
        major = np.lib.format.read_magic(stream)[0]
        read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream, max_header_size=_MAX_HEADER_LENGTH)
    except Exception:  # numpy parses the header as a Python literal, which can fail in many ways
        raise InvalidRequest(f"input '{name}' is not a valid npy file; write it with numpy.save") from None
    check_shape(name, shape)
    if dtype.kind not in "biufSU" or dtype.hasobject or dtype.itemsize == 0:
        raise InvalidRequest(
            f"the npy file for input '{name}' holds {_describe(dtype)}; save numbers, booleans or strings"
        )
    body, size = memoryview(data)[stream.tell() :], prod(shape) * dtype.itemsize
    if len(body) != size:
        raise InvalidRequest(
            f"the npy file for input '{name}' has {len(body)} bytes of data, but its header describes {size}"
        )
    if dtype.kind in "SU":
        check_strings(name, prod(shape))
    return _tensor(name, body, shape, fortran, dtype)


def read_npz(data: bytes, max_bytes: int) -> list[Tensor]:
    """Read one tensor per file in the zip. Raises InvalidRequest, and TooLarge for more than `max_bytes` of content."""
    if data.count(_RECORD) > _MAX_FILES:
        raise InvalidRequest(f"the npz file holds more than {_MAX_FILES} arrays")
    import zipfile  # takes memory that most fronts need not spend

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = archive.infolist()
            size = sum(file.file_size for file in files)
            if size > max_bytes:
                raise TooLarge(f"the npz file unpacks to {size} bytes, over the limit of {max_bytes}; send fewer rows")
            if any(file.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for file in files):
                raise InvalidRequest("the npz file uses an unsupported compression; write it with numpy.savez")
            # `read` stops at the size in the directory, so a wrong size there cannot make it exceed the limit.
            return [read_npy(file.filename.removesuffix(".npy"), archive.read(file)) for file in files]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, NotImplementedError):
        raise InvalidRequest("the body is not a valid npz file; write it with numpy.savez") from None


def write_npy(tensor: Tensor) -> bytes:
    """Write a tensor.

    Raises InvalidRequest for strings that are not UTF-8, because numpy would have to pickle them, and for datatypes
    that numpy lacks, because it would write them as bytes without a type.
    """
    if DATATYPES[tensor.datatype].typestr is None:
        raise InvalidRequest(f"output '{tensor.name}' is {tensor.datatype}, which npy cannot represent; ask for JSON")
    array = to_array(tensor)
    if tensor.datatype == "BYTES":
        try:
            array = np.array([element.decode() for element in array.ravel()], dtype=np.str_).reshape(array.shape)
        except UnicodeDecodeError:
            raise InvalidRequest(
                f"output '{tensor.name}' holds bytes that npy cannot represent; ask for JSON"
            ) from None
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=False)
    return stream.getvalue()


def write_npz(tensors: Iterable[Tensor]) -> bytes:
    import zipfile

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
        raise InvalidRequest(
            f"the npy file for input '{name}' holds {_describe(dtype)}, which is not supported"
        ) from None
    except ValueError:  # a dimension that exceeds memory although another one is 0, or text that is not Unicode
        raise InvalidRequest(f"the npy file for input '{name}' cannot be read as an array") from None


def _describe(dtype: np.dtype) -> str:
    if dtype.hasobject:
        return "Python objects"
    if dtype.fields or dtype.subdtype:
        return "records"
    if dtype.kind == "V":
        return f"{dtype.itemsize} bytes without a type for each element, as numpy writes BF16 and others that it lacks"
    return dtype.name
