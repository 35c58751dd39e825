"""grpc.health.v1 without a server: the messages that clients may send. test_grpc.py has real clients."""

import asyncio
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from gateway.domain.identity import Action
from gateway.engine.fake import FakeEngine
from gateway.errors import InvalidRequest, NotFound, Unauthenticated
from gateway.front.grpc.health import health_service

LONG = "a.service." + "x" * 200
SERVING, NOT_SERVING, UNKNOWN = (
    health_pb2.HealthCheckResponse(status=status).SerializeToString()
    for status in (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
        health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
    )
)


def asked(service: str) -> bytes:
    message: bytes = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    return message


async def _check(raw: bytes, ready: bool) -> bytes:
    engine = FakeEngine([], lambda request: [])
    engine.ready = ready
    return await health_service(engine, ["a", LONG], 1.0).methods["Check"](raw, None, None)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        asked("a"),
        asked(LONG),
        b"\x0a\x00",
        b"\x0a\x01b\x0a\x01a",  # the last of several values counts
        b"\x10\x05" + asked("a"),  # a field that this version does not know
    ],
)
def test_valid_messages(raw: bytes) -> None:
    assert asyncio.run(_check(raw, True)) == SERVING
    assert asyncio.run(_check(raw, False)) == NOT_SERVING


@pytest.mark.parametrize("raw", [b"\x0a", b"\x0a\x05a", b"\x0a\x01\xff", b"\xff", b"\x0a\x80"])
def test_invalid_messages(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"not a valid grpc\.health\.v1\.HealthCheckRequest"):
        asyncio.run(_check(raw, True))


def test_an_unknown_service() -> None:
    with pytest.raises(NotFound, match="there is no service 'b'"):
        asyncio.run(_check(asked("b"), True))

    async def watch() -> bytes:
        service = health_service(FakeEngine([], lambda request: []), ["a"], 1.0)
        answers = service.server_streams["Watch"](asked("b"), None)
        first = await anext(answers)
        await answers.aclose()
        return first

    assert asyncio.run(watch()) == UNKNOWN


def test_a_watch_ends_with_the_credentials_of_its_client() -> None:
    valid = [True]

    def check(action: Action, model: str) -> Any:
        assert (action, model) == ("health", "")
        if not valid[0]:
            raise Unauthenticated("the API key is not valid")

    async def watch() -> None:
        service = health_service(FakeEngine([], lambda request: []), ["a"], 0.001)
        answers = service.server_streams["Watch"](b"", check)  # type: ignore[arg-type]
        assert await anext(answers) == SERVING
        valid[0] = False
        with pytest.raises(Unauthenticated):
            await anext(answers)

    asyncio.run(watch())
