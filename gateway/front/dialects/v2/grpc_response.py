"""Writes ModelInferResponse messages.

An answer is fields that few answers change (names, datatypes, shapes, the lengths of the data), and data. The fields
are written once per model and layout, and joined with the data. A protobuf message is its fields, in any order, and
messages that are joined merge: repeated fields are joined (protobuf encoding guide, "Last One Wins").
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from gateway.codecs.protobuf_fields import field, field_head
from gateway.domain.shared_memory import RegionRange
from gateway.domain.types import InferResponse
from gateway.engine.protocol import Engine
from gateway.front.base.limits import Limits, check_answer
from gateway.front.dialects.v2.classification import classify
from gateway.front.dialects.v2.output_options import OutputOptions
from gateway.front.dialects.v2.shared_memory import region_parameters
from gateway.generated import open_inference_pb2 as pb
from runtimes.bounded_cache import BoundedCache
from runtimes.layouts import GroupedTensors, TensorGroup, TensorLayout
from runtimes.tensors import Buffer, Tensor

# Field keys of ModelInferResponse.
_ID: Final = 3 << 3 | 2
_CONTENTS: Final = 6 << 3 | 2
# The shapes of outputs follow from those of requests, which clients choose.
_MAX_CACHED = 1024
# Longer layouts are not cached.
_MAX_TENSORS = 64


class _Fields(NamedTuple):
    """The fields of all answers of one model that have the same layout.

    start  the model and the outputs
    heads  the tag and length of each output's data; None for strings, whose length differs
    size   the bytes of all data without strings
    """

    start: bytes
    heads: Sequence[bytes | None]
    size: int


class ResponseWriter:
    """Writes answers of models. There is one per server.

    They have raw_output_contents even for typed inputs, as Triton's clients require.
    """

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine, self._limits = engine, limits
        self._fields: BoundedCache[tuple[str, str, TensorLayout, int], _Fields] = BoundedCache(_MAX_CACHED)

    def write(self, options: OutputOptions, response: InferResponse) -> bytes:
        """Raises TooLarge, and InvalidRequest for an output that cannot be returned in the form that was asked for."""
        model, version, outputs, request_id, _ = response
        if type(outputs) is GroupedTensors and not options.class_counts and not options.region_ranges:
            group, member = outputs.group, outputs.member
            start, heads, size = self.fields(model, version, group, member)
            parts: list[Buffer] = [start]
            for tensor, head in enumerate(heads):
                data = group.data(tensor, member, member + 1)
                if head is None:
                    size += len(data)
                    head = field_head(_CONTENTS, len(data))
                parts += (head, data)
            if size <= self._limits.response_bytes:
                if request_id:
                    parts += field(_ID, request_id.encode())
                return b"".join(parts)
        response = classify(self._engine, response, options.class_counts)
        check_answer(response, self._limits)
        return self._write_each(response, options.region_ranges)

    def fields(self, model: str, version: str, group: TensorGroup, member: int) -> _Fields:
        """Return the fields of an answer."""
        key = model, version, group.layout, group.rows[member]
        return self._fields.entries.get(key) or self._describe(key, group.layout_of(member))

    def _describe(self, key: tuple[str, str, TensorLayout, int], layout: TensorLayout) -> _Fields:
        described = layout[2]
        start = [_model_fields(*key[:2]), *[_output_field(*each[:3]) for each in described]]
        sizes = [size for _, _, _, size in described]
        heads = [None if size < 0 else field_head(_CONTENTS, size) for size in sizes]
        fields = _Fields(b"".join(start), heads, sum([size for size in sizes if size > 0]))
        if len(sizes) <= _MAX_TENSORS:
            self._fields.put(key, fields)
        return fields

    def _write_each(self, response: InferResponse, ranges: Mapping[str, RegionRange]) -> bytes:
        """Write any answer. An output in shared memory is written there, and its raw content is empty."""
        parts: list[Buffer] = [_model_fields(response.model, response.version)]
        for tensor in response.outputs:
            name, datatype, shape, data = tensor
            if name in ranges:
                self._engine.shared_memory.write(ranges[name], data)
                parts.append(_shared_output_field(tensor, ranges[name]))
            else:
                parts.append(_output_field(name, datatype, shape))
        for tensor in response.outputs:
            # Also for outputs in shared memory, because clients find raw contents by the index of the output.
            parts += field(_CONTENTS, b"" if tensor.name in ranges else tensor.data)
        if response.id:
            parts += field(_ID, response.id.encode())
        return b"".join(parts)


@lru_cache(_MAX_CACHED)
def _model_fields(model: str, version: str) -> bytes:
    raw: bytes = pb.ModelInferResponse(model_name=model, model_version=version).SerializeToString()
    return raw


@lru_cache(_MAX_CACHED)
def _output_field(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    output = pb.ModelInferResponse.InferOutputTensor(name=name, datatype=datatype, shape=shape)
    raw: bytes = pb.ModelInferResponse(outputs=[output]).SerializeToString()
    return raw


def _shared_output_field(tensor: Tensor, region_range: RegionRange) -> bytes:
    output = pb.ModelInferResponse.InferOutputTensor(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    for key, value in region_parameters(region_range, len(tensor.data)).items():
        parameter = output.parameters[key]
        if isinstance(value, str):
            parameter.string_param = value
        else:
            parameter.int64_param = value
    raw: bytes = pb.ModelInferResponse(outputs=[output]).SerializeToString()
    return raw
