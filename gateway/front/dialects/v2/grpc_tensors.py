"""Converts the typed contents of gRPC messages to tensors. Raw contents need no conversion, and answers are raw."""

import numpy as np

from gateway.codecs.protobuf_fields import typed_array
from gateway.domain.tensor_checks import check_datatype, check_strings
from gateway.errors import InvalidRequest
from gateway.generated import open_inference_pb2 as pb
from runtimes.contract import DATATYPES, numpy_dtype
from runtimes.tensors import Tensor, pack_bytes

# The field of InferTensorContents for the elements of each datatype; FP16 has none.
CONTENTS_FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
# The dtype of the field's elements, for datatypes that are narrower.
_FIELD_DTYPES = {"int": np.dtype(np.int32), "uint": np.dtype(np.uint32)}


def read_typed(tensor: pb.ModelInferRequest.InferInputTensor) -> Tensor:
    """Convert a tensor. The engine checks later that its data fits its shape. Raises InvalidRequest."""
    name, datatype = tensor.name, tensor.datatype
    check_datatype(name, datatype)
    if datatype not in CONTENTS_FIELDS:
        raise InvalidRequest(f"input '{name}' has datatype {datatype}, which has no contents; use raw_input_contents")
    field = CONTENTS_FIELDS[datatype]
    for other, _ in tensor.contents.ListFields():
        if other.name != field:
            raise InvalidRequest(f"input '{name}' has datatype {datatype}; fill {field}, not {other.name}")
    values = getattr(tensor.contents, field)
    shape = tuple(tensor.shape)
    if datatype == "BYTES":
        check_strings(name, len(values))
        return Tensor(name, datatype, shape, pack_bytes(values))
    if not values:
        return Tensor(name, datatype, shape, b"")
    known = DATATYPES[datatype]
    own = _FIELD_DTYPES[known.kind] if known.itemsize < 4 and known.kind in _FIELD_DTYPES else numpy_dtype(datatype)
    return Tensor(name, datatype, shape, typed_array(name, datatype, values, own).view(np.uint8).data)
