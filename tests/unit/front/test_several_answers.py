"""Models that answer a request several times: HTTP and unary gRPC return the final answer, a stream all of them."""

from typing import Any

import pytest

from gateway.domain.identity import Identity
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.fake import FakeEngine
from gateway.engine.protocol import AnswerCallback
from gateway.generated import open_inference_pb2 as pb
from tests.support.bad_inputs import Subject, good_call
from tests.support.front_server import WAIT_S, Serving
from tests.support.v2_calls import as_json, as_message

GOOD = good_call(Subject())
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


@pytest.fixture(autouse=True)
def _two_answers(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(
        self: FakeEngine,
        request: InferRequest,
        done: AnswerCallback,
        identity: Identity | None = None,
        takes_many: bool = False,
    ) -> Any:
        def twice(outcome: InferResponse | Exception) -> None:
            assert isinstance(outcome, InferResponse)
            done(outcome._replace(id="early", final=False))
            done(outcome._replace(id="final"))

        return plain(self, request, twice)

    plain = FakeEngine.submit
    monkeypatch.setattr(FakeEngine, "submit", submit)


def test_http_has_the_final_answer(serving: Serving) -> None:
    for _ in range(2):
        assert serving.http.post(GOOD.path, content=as_json(GOOD)).json()["id"] == "final"


def test_unary_grpc_has_the_final_answer(grpc_serving: Serving) -> None:
    message = as_message(GOOD, raw=True)
    message.id = "seven"
    answer = pb.ModelInferResponse.FromString(grpc_serving.call("ModelInfer", message.SerializeToString()))
    assert answer.id == "final"


def test_a_stream_has_each_answer_and_says_which_is_final(grpc_serving: Serving) -> None:
    messages = [as_message(GOOD, raw=True).SerializeToString()] * 3
    call = grpc_serving.channel.stream_stream(STREAM)(iter(messages), timeout=WAIT_S)
    answers = [pb.ModelStreamInferResponse.FromString(raw).infer_response for raw in call]
    flags = [(answer.id, answer.parameters["triton_final_response"].bool_param) for answer in answers]
    assert sorted(flags) == [("early", False)] * 3 + [("final", True)] * 3
