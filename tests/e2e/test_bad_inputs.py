"""Bad inputs to a real gateway: each gets a one-sentence error, not a 500, and does not affect other requests."""

from collections.abc import Iterator

import grpc
import pytest

from tests.support.bad_inputs import (
    BadCall,
    BadRequest,
    Subject,
    bad_calls,
    bad_requests,
    check_reply,
    check_status,
    good_call,
)
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_fake
from tests.support.protocols import grpc_call
from tests.support.v2_calls import as_json, as_message

SUBJECT = Subject()


def tensor(name: str, datatype: str) -> list[dict[str, object]]:
    return [{"name": name, "datatype": datatype, "shape": [-1, SUBJECT.width]}]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    scratch = tmp_path_factory.mktemp("bad")
    for name, datatype in ((SUBJECT.floats, "FP32"), (SUBJECT.integers, SUBJECT.integer_datatype)):
        described = {"inputs": tensor(SUBJECT.input, datatype), "outputs": tensor(SUBJECT.output, datatype)}
        add_fake(scratch / "repository", name, **described)
    started = start_gateway(scratch / "repository", scratch).wait_ready()
    yield started
    assert not [line for line in started.log if "Traceback" in line]
    started.close()


@pytest.mark.parametrize("bad", bad_requests(SUBJECT), ids=lambda bad: bad.id)
def test_rest(running: Gateway, bad: BadRequest) -> None:
    reply = running.post(bad.path, bad.body, bad.headers)
    check_reply(bad, reply.status, reply.body)
    good = good_call(SUBJECT)
    assert running.post(good.path, as_json(good)).status == 200


@pytest.mark.parametrize("bad", bad_calls(SUBJECT), ids=lambda bad: bad.id)
def test_grpc(running: Gateway, bad: BadCall) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        grpc_call(running, bad.method, bad.message, bytes_answer())
    check_status(bad, caught.value.code().name, caught.value.details())
    grpc_call(running, "ModelInfer", as_message(good_call(SUBJECT), raw=True), bytes_answer())


def bytes_answer() -> type:
    class Raw:
        FromString = staticmethod(bytes)

    return Raw
