"""Ragged and sparse tensors as the tensors that they consist of, named after TensorFlow's attributes: `rows.values`."""

from typing import Any, Dict, List

import tensorflow as tf
from tensorflow.core.protobuf import struct_pb2

from .signatures import reason

_SPARSE = ["indices", "values", "dense_shape"]


def parts_of(key: str, value: Any) -> Dict[str, Any]:
    """Return the tensors of a ragged or sparse tensor, or the specs in its spec, by name, in TensorFlow's order.

    Anything else, and what contains a tensor that cannot be served, stands for itself.
    """
    specs = tf.nest.flatten(value, expand_composites=True)
    names = _names(key, value)
    return dict(zip(names, specs)) if names and not any(map(reason, specs)) else {key: value}


def _names(key: str, value: Any) -> List[str]:
    if isinstance(value, (tf.SparseTensorSpec, tf.SparseTensor)):
        return ["%s.%s" % (key, name) for name in _SPARSE]
    if isinstance(value, (tf.RaggedTensorSpec, tf.RaggedTensor)):
        return _ragged(key, value.ragged_rank)
    return []


def tensors_of(key: str, info: Any) -> Dict[str, str]:
    """Return the same for a TensorInfo, as the tensors' names in the graph. What is no tensor has the name ""."""
    kind = info.WhichOneof("encoding")
    if kind == "name":
        return {key: info.name}
    if kind == "coo_sparse":
        sparse = info.coo_sparse
        found = [sparse.indices_tensor_name, sparse.values_tensor_name, sparse.dense_shape_tensor_name]
        return {"%s.%s" % (key, name): tensor for name, tensor in zip(_SPARSE, found)}
    if kind == "composite_tensor":
        tensors = [each.name for each in info.composite_tensor.components]
        form = info.composite_tensor.type_spec.type_spec_class
        if form == struct_pb2.TypeSpecProto.SPARSE_TENSOR_SPEC and len(tensors) == len(_SPARSE):
            return {"%s.%s" % (key, name): tensor for name, tensor in zip(_SPARSE, tensors)}
        if form == struct_pb2.TypeSpecProto.RAGGED_TENSOR_SPEC and len(tensors) > 1:
            return dict(zip(_ragged(key, len(tensors) - 1), tensors))
    return {key: ""}


def _ragged(key: str, rank: int) -> List[str]:
    if rank == 1:
        return [key + ".values", key + ".row_splits"]
    return [key + ".flat_values", *("%s.nested_row_splits_%d" % (key, depth) for depth in range(rank))]
