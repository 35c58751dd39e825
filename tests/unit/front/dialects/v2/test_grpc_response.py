"""Answers of the engine written as ModelInferResponse, one by one and as members of a group."""

import numpy as np
import pytest

from gateway.domain.types import InferResponse
from gateway.engine.fake import FakeEngine
from gateway.errors import TooLarge
from gateway.front.base.limits import Limits
from gateway.front.dialects.v2.grpc_response import ResponseWriter
from gateway.front.dialects.v2.output_options import OutputOptions
from gateway.generated import open_inference_pb2 as pb
from runtimes.layouts import GroupedTensors, TensorGroup, cached, new_layout, pack_tensors, string_sizes
from runtimes.tensors import Tensor, from_array, pack_bytes
from tests.support.front_server import answer, models

MEMBERS = 3


def outputs(member: int) -> list[Tensor]:
    return [
        from_array("scores", np.arange(4, dtype=np.float32).reshape(1, 4) + member),
        from_array("flag", np.array([bool(member % 2)])),
        Tensor("label", "BYTES", (1,), pack_bytes([b"%d" % member])),
        Tensor("nothing", "INT64", (0, 2), b""),
    ]


def grouped(kinds: slice) -> list[GroupedTensors]:
    return members([outputs(member)[kinds] for member in range(MEMBERS)])


def members(each: list[list[Tensor]]) -> list[GroupedTensors]:
    layout = cached(new_layout("", (), each[0]))
    buffers = [[tensor.data for tensor in tensors] for tensors in each]
    body = memoryview(b"".join([b"before", *pack_tensors(layout, buffers)]))
    group = TensorGroup(layout, [1] * len(each), body, 6, string_sizes(layout, buffers))
    return [GroupedTensors(group, member) for member in range(len(each))]


def expected(tensors: list[Tensor], request_id: str) -> pb.ModelInferResponse:
    described = [pb.ModelInferResponse.InferOutputTensor(name=n, datatype=d, shape=s) for n, d, s, _ in tensors]
    data = [bytes(tensor.data) for tensor in tensors]
    return pb.ModelInferResponse(
        model_name="m", model_version="2", id=request_id, outputs=described, raw_output_contents=data
    )


@pytest.fixture
def writer() -> ResponseWriter:
    return ResponseWriter(FakeEngine(models(), answer), Limits())


@pytest.mark.parametrize("kinds", [slice(1), slice(1, 2), slice(2, 3), slice(3, 4), slice(None), slice(0)])
@pytest.mark.parametrize("request_id", ["", "é", "i" * 200])
def test_an_answer_is_what_protobuf_would_write(kinds: slice, request_id: str, writer: ResponseWriter) -> None:
    for _ in range(2):  # the second time from the cache
        for member, tensors in enumerate(grouped(kinds)):
            right = expected(outputs(member)[kinds], request_id)
            for one in (tensors, list(tensors)):
                raw = writer.write(OutputOptions(), InferResponse("m", "2", one, request_id))
                assert pb.ModelInferResponse.FromString(raw) == right


def test_models_and_versions_have_their_own_answers(writer: ResponseWriter) -> None:
    (tensors, *_) = grouped(slice(1))
    for model, version in (("m", "1"), ("n", "1"), ("m", "2"), ("m", "1")):
        raw = writer.write(OutputOptions(), InferResponse(model, version, tensors))
        answered = pb.ModelInferResponse.FromString(raw)
        assert (answered.model_name, answered.model_version) == (model, version)


def test_an_answer_over_the_limit_is_rejected_each_time() -> None:
    writer = ResponseWriter(FakeEngine(models(), answer), Limits(response_bytes=16))
    for _ in range(2):
        writer.write(OutputOptions(), InferResponse("m", "2", grouped(slice(1))[0]))
        with pytest.raises(TooLarge, match="the answer has 22 bytes of tensors, over the limit of 16"):
            writer.write(OutputOptions(), InferResponse("m", "2", grouped(slice(None))[0]))
        short, long = members([[Tensor("t", "BYTES", (1,), pack_bytes([b"t" * size]))] for size in (12, 13)])
        writer.write(OutputOptions(), InferResponse("m", "2", short))
        with pytest.raises(TooLarge, match="the answer has 17 bytes of tensors"):
            writer.write(OutputOptions(), InferResponse("m", "2", long))


def test_strings_of_any_length_share_an_entry_of_the_cache(writer: ResponseWriter) -> None:
    for texts in ([b""], [b"a"], [b"\0" * 300], [b"bc", b"d" * 70_000]):
        tensors = [Tensor("t", "BYTES", (1,), pack_bytes([text])) for text in texts]
        for member, tensor in zip(members([[tensor] for tensor in tensors]), tensors, strict=True):
            raw = writer.write(OutputOptions(), InferResponse("m", "2", member))
            assert pb.ModelInferResponse.FromString(raw) == expected([tensor], "")
    assert len(writer._fields) == 1
