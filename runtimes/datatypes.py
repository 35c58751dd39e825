"""The datatypes of tensors, and numpy's dtypes for them. Authors of runtimes import them from contract.py."""

from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional

if TYPE_CHECKING:
    import numpy as np  # imported when it is needed, because the gateway's supervisor never needs it


class Datatype(NamedTuple):
    """A datatype of the Open Inference Protocol, or one of those that we add to it in the same style.

    itemsize   bytes of one element; 0 for BYTES, whose elements vary in length. Four bits take a byte as well
    kind       "bool", "uint", "int", "float" or "bytes"
    typestr    numpy's type string of the dtype, little-endian; None if numpy has no such type
    ml_dtypes  the name of the dtype in the package ml_dtypes, for those that numpy lacks
    """

    name: str
    itemsize: int
    kind: str
    typestr: Optional[str]
    ml_dtypes: str = ""

    @property
    def dtype(self) -> "np.dtype":
        """The dtype of arrays. Raises ValueError with a sentence if it needs ml_dtypes, and that is not installed."""
        import numpy as np

        if self.typestr is not None:
            return np.dtype(self.typestr)
        try:
            import ml_dtypes
        except ImportError:
            raise ValueError(
                "%s needs the Python package ml_dtypes, which is not in the model's environment" % self.name
            ) from None
        return np.dtype(getattr(ml_dtypes, self.ml_dtypes))


# All supported datatypes, by name. A BYTES tensor is an object array of `bytes`, as input and as output of `infer`. In
# a TensorSpec, the datatype "" means that the artifact does not declare it.
DATATYPES: Dict[str, Datatype] = {
    each.name: each
    for each in (
        Datatype("BOOL", 1, "bool", "?"),
        Datatype("UINT8", 1, "uint", "u1"),
        Datatype("UINT16", 2, "uint", "<u2"),
        Datatype("UINT32", 4, "uint", "<u4"),
        Datatype("UINT64", 8, "uint", "<u8"),
        Datatype("INT8", 1, "int", "i1"),
        Datatype("INT16", 2, "int", "<i2"),
        Datatype("INT32", 4, "int", "<i4"),
        Datatype("INT64", 8, "int", "<i8"),
        Datatype("FP16", 2, "float", "<f2"),
        Datatype("FP32", 4, "float", "<f4"),
        Datatype("FP64", 8, "float", "<f8"),
        Datatype("BYTES", 0, "bytes", "O"),
        Datatype("BF16", 2, "float", None, "bfloat16"),
        Datatype("FP8_E4M3FN", 1, "float", None, "float8_e4m3fn"),
        Datatype("FP8_E5M2", 1, "float", None, "float8_e5m2"),
        Datatype("INT4", 1, "int", None, "int4"),
        Datatype("UINT4", 1, "uint", None, "uint4"),
    )
}
# The smallest and the largest integer of datatypes whose elements do not use all bits of their byte. As bytes, they are
# the same as INT8 and UINT8.
NARROW_RANGES = {"INT4": (-8, 7), "UINT4": (0, 15)}
_OF_ML_DTYPES = {each.ml_dtypes: each.name for each in DATATYPES.values() if each.ml_dtypes}


class _NumpyDtypes(Dict[str, "np.dtype"]):
    """Name of a datatype → dtype."""

    def __missing__(self, datatype: str) -> "np.dtype":
        dtype = self[datatype] = DATATYPES[datatype].dtype
        return dtype


class _DatatypeNames(Dict[Any, str]):
    """dtype, of any byte order, or what numpy accepts as one → name of the datatype."""

    def __missing__(self, dtype: Any) -> str:
        import numpy as np

        # Their names are compared, because ml_dtypes need not be installed.
        if isinstance(dtype, str) and dtype in _OF_ML_DTYPES:
            return _OF_ML_DTYPES[dtype]
        known = np.dtype(dtype)
        if known.kind in "SUO":
            return "BYTES"
        if known.name in _OF_ML_DTYPES:
            self[dtype] = _OF_ML_DTYPES[known.name]
            return self[dtype]
        for each in DATATYPES.values():
            if each.typestr is not None and each.dtype == known.newbyteorder("="):
                self[dtype] = each.name
                return each.name
        raise KeyError(known)


# Returns the dtype for the name of a datatype. Raises KeyError if there is no such datatype, and ValueError with a
# sentence if it needs ml_dtypes, and that is not installed. It is called for each tensor of a request, so it is a
# method of a dictionary.
numpy_dtype = _NumpyDtypes().__getitem__
_DATATYPE_NAMES = _DatatypeNames()


def has_dtype(datatype: str) -> bool:
    """Return whether arrays can have the datatype here: it may need ml_dtypes, which may not be installed."""
    try:
        numpy_dtype(datatype)
    except ValueError:
        return False
    return True


def kind_of(datatype: str) -> str:
    """Return Datatype.kind, or "" for the unknown datatype ""."""
    return DATATYPES[datatype].kind if datatype else ""


def datatype_of(dtype: Any) -> str:
    """Return the name of the datatype for a numpy dtype. Raises KeyError if the protocol lacks it."""
    return _DATATYPE_NAMES[dtype]
