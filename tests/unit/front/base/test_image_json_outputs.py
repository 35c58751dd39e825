"""Images for models with outputs that only an answer in JSON can have, or with inputs that may be left out."""

import json

import pytest

from gateway.domain.types import InferResponse, ModelStatus
from gateway.engine.fake import FakeEngine
from gateway.front.base.body import read_headers
from gateway.front.base.dialect import Reply, Route
from gateway.front.base.limits import Limits
from gateway.front.dialects.plain.rest import PREDICT
from runtimes.contract import Signature, TensorSpec
from runtimes.tensors import Tensor, pack_bytes
from tests.support.image_files import noise, save

SIGNATURE = Signature(
    (TensorSpec("x", "BYTES", (-1,)),), (TensorSpec("label", "INT64", (-1,)),), {"maps": "a map"}, json=("maps",)
)
STATUS = ModelStatus("m", "1", "READY", admits=True, signatures={"default": SIGNATURE})


@pytest.mark.parametrize(("accept", "outputs"), [(b"*/*", ["label", "maps"]), (b"application/x-npz", [])])
def test_an_image_gets_them_in_json(accept: bytes, outputs: list[str]) -> None:
    engine = FakeEngine([STATUS], lambda request: [])
    headers = read_headers([(b"content-type", b"image/png"), (b"accept", accept)])
    request, write = PREDICT.read(engine, Limits(), Route(PREDICT, "m"), headers, save(noise(4, 4)))
    assert list(request.outputs) == outputs
    if outputs:
        tensors = [Tensor("label", "INT64", (1,), bytes(8)), Tensor("maps", "BYTES", (1,), pack_bytes([b'{"0": 1}']))]
        reply = write(InferResponse("m", "1", tensors))
        assert isinstance(reply, Reply)
        assert json.loads(b"".join(reply.body))["outputs"] == {"label": [0], "maps": [{"0": 1}]}


def test_an_image_is_the_only_input_that_is_needed() -> None:
    inputs = (TensorSpec("labels", "FP32", (-1, 3)), *SIGNATURE.inputs)
    status = ModelStatus("m", "1", "READY", signatures={"default": Signature(inputs, (), {}, ("labels",))})
    headers = read_headers([(b"content-type", b"image/png")])
    image = save(noise(4, 4))
    request, _ = PREDICT.read(FakeEngine([status], lambda request: []), Limits(), Route(PREDICT, "m"), headers, image)
    assert [tensor.name for tensor in request.inputs] == ["x"]
