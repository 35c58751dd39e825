"""Triton's raw request: the body is the bytes of one input, without any JSON."""

from math import prod

from gateway.codecs.json_tensors import raw_tensor
from gateway.domain.types import ModelStatus, unavailable
from gateway.errors import InvalidRequest
from runtimes.contract import DATATYPES
from runtimes.tensors import Buffer, Tensor, pack_bytes


def read_raw(status: ModelStatus, body: Buffer) -> Tensor:
    """Read the input of a model that has only one.

    At most one of its dimensions may be variable; the size of the body determines it. If more are variable and the
    first counts rows, the request has one row. A BYTES input is one string: the body. Raises InvalidRequest,
    Unavailable.
    """
    signature = status.signature() or status.learned
    if signature is None:
        raise unavailable(status)
    only = signature.only_input()
    if only is None:
        raise InvalidRequest(
            f"model '{status.name}' has {len(signature.inputs)} inputs; a request without JSON is for models with one"
        )
    name, datatype, declared = only
    if datatype == "BYTES" and declared is None:
        declared = (1,)
    if not datatype or declared is None:
        raise InvalidRequest(f"input '{name}' has no declared datatype and shape; send them, in JSON")
    shape = list(declared)
    if datatype == "BYTES":
        shape = [1 if size < 0 else size for size in shape]
        if prod(shape) != 1:
            raise InvalidRequest(f"input '{name}' has {prod(shape)} strings; a request without JSON has one")
        return Tensor(name, datatype, tuple(shape), pack_bytes([bytes(body)]))
    if shape.count(-1) > 1 and status.has_rows and status.batch_dim == 0:
        shape[0] = 1
    if shape.count(-1) > 1:
        raise InvalidRequest(
            f"input '{name}' has shape {list(declared)}; a body without JSON determines only one dimension; send JSON"
        )
    row = DATATYPES[datatype].itemsize * prod(size for size in shape if size >= 0)
    if -1 in shape:
        shape[shape.index(-1)] = len(body) // row if row else 0
    if row * (1 if -1 not in declared or not row else len(body) // row) != len(body):
        raise InvalidRequest(
            f"a body of {len(body)} bytes does not fit input '{name}', which has shape {list(declared)} of {datatype}"
        )
    return raw_tensor(name, datatype, shape, body)
