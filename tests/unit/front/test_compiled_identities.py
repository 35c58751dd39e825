"""Requests of known clients take the compiled path, and are refused as without it."""

import math
import time
from dataclasses import replace
from hashlib import sha256
from types import ModuleType

import pytest

from gateway.access.access import PolicyAccess
from gateway.access.policy import Policy, Rights
from gateway.access.roles import read_roles
from gateway.domain.quota import Quota
from gateway.front.base.access import known_caller
from gateway.front.base.limits import Limits
from gateway.front.dialects.v2.grpc_request import RequestReader
from gateway.generated import open_inference_pb2 as pb
from tests.unit.front.test_compiled_requests import Bench, Run, document, http, module, post, run

__all__ = ["module", "run"]  # fixtures

KEYS = {name: f"{name}-key-{'0' * 40}" for name in ("ours", "reader", "limited")}
POLICY = Policy(
    Rights(read_roles(["health"])),
    {
        "ours": Rights(read_roles(["infer:m"])),
        "reader": Rights(read_roles(["read", "infer:other"])),
        "limited": Rights(
            read_roles(["infer"]), Quota(in_flight=1, bytes_per_second=1e6, compute_seconds_per_minute=9)
        ),
    },
    {sha256(key.encode()).hexdigest(): name for name, key in KEYS.items()},
)


def asked(name: str, more: str = "") -> bytes:
    return http(document(), more=f"Authorization: Bearer {KEYS[name]}\r\n{more}")


def test_a_request_with_a_key_is_taken_for_its_client(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(asked("ours"))
        for more in ("", "traceparent: 1\r\n", "x-request-id: 2\r\n"):
            await bench.ask(asked("ours", more))
            await bench.answer_all()
        assert bench.answers().count(b"200 OK") == 7

    run(test, policy=POLICY)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("", b"401 "),
        ("Authorization: Bearer wrong\r\n", b"401 "),
        (f"Authorization: Bearer {KEYS['reader']}\r\n", b"403 "),
        (f"Authorization: Bearer {KEYS['ours']}\r\nX-API-Key: {KEYS['reader']}\r\n", b"401 "),
        (f"X-API-Key: {KEYS['ours']}\r\n", b"200 "),
    ],
)
def test_each_head_has_a_client_of_its_own(run: Run, headers: str, status: bytes) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(asked("ours"))
        for _ in range(4):
            other = bench.pair.connect()  # a refusal may end it
            bench.pair.send(other, http(document(), more=headers))
            await bench.pair.compare()
            await bench.answer_all()
            assert bench.answers(other).startswith(b"HTTP/1.1 " + status)
            await bench.ask(asked("ours"))
            await bench.answer_all()

    run(test, policy=POLICY)


def test_a_key_that_is_withdrawn_ends_a_connection_in_use(run: Run) -> None:
    without = replace(POLICY, keys={digest: name for digest, name in POLICY.keys.items() if name != "ours"})

    async def test(bench: Bench) -> None:
        await bench.learn(asked("ours"))
        other = bench.pair.connect()
        await bench.learn(asked("ours"), other)
        await bench.ask(asked("ours"))  # what was admitted is answered
        await bench.pair.publish(without)
        await bench.answer_all()
        assert b" 200 " in bench.answers()
        for number in (bench.number, other):
            bench.answers(number)
            bench.pair.send(number, asked("ours"))
            await bench.pair.compare()
            assert bench.answers(number).startswith(b"HTTP/1.1 401 ")
        await bench.pair.publish(POLICY)
        await bench.learn(asked("ours"), bench.pair.connect())

    run(test, policy=POLICY)


def test_credentials_that_expire_are_looked_at_again(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(asked("ours"))
        taken = bench.taken
        for front in bench.pair.fronts:
            assert front.access is not None
            for key in front.access._keys.values():
                key.identity.expires = time.monotonic() - 1
        bench.pair.send(bench.number, asked("ours"))
        await bench.pair.compare()
        assert bench.taken == taken
        await bench.answer_all()
        for front in bench.pair.fronts:
            assert front.access is not None
            for key in front.access._keys.values():
                key.identity.expires = math.inf
        await bench.learn(asked("ours"))

    run(test, policy=POLICY)


def test_quotas_are_counted_and_enforced(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(asked("limited"))
        other = bench.pair.connect()
        await bench.learn(asked("limited"), other)
        for end in (bench.answer_all, bench.fail, bench.expire):
            bench.answers(other)
            await bench.ask(asked("limited"))
            bench.pair.send(other, asked("limited"))
            await bench.pair.compare()
            assert b" 429 " in bench.answers(other)
            await end()
            await bench.answer_all()
        await bench.ask(asked("limited"), other)
        await bench.leave()
        await bench.answer_all()
        (used,) = [each for each in bench.pair.fast.engine.usages.snapshot() if each["identity"] == "limited"]
        assert used["refused"] == {"in_flight": 3}
        assert used["compute_s"] > 0

    run(test, policy=POLICY)


def test_a_body_that_names_its_model_is_for_python(run: Run) -> None:
    body = '{"model":"m","inputs":[[1,2]]}'

    async def test(bench: Bench) -> None:
        await bench.learn(asked("ours"))
        for name in ("ours", "reader"):
            for _ in range(3):
                number = bench.pair.connect()
                bench.pair.send(number, post("/predict", body, f"Authorization: Bearer {KEYS[name]}\r\n"))
                await bench.pair.compare()
                await bench.answer_all()
                assert bench.answers(number).startswith(b"HTTP/1.1 " + (b"200" if name == "ours" else b"403"))

    run(test, policy=POLICY)


def test_a_call_is_taken_if_its_client_may_make_it(run: Run, module: ModuleType) -> None:
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=[bytes(8)])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    text = message.SerializeToString()

    async def test(bench: Bench) -> None:
        fronts = bench.pair.fronts
        reader = RequestReader(bench.pair.fast.engine)
        for front in fronts:
            front.engine.submit(reader.read(text, None)[0], lambda answer: None)
        path = module.FastPath(bench.pair.fast.engine, Limits())
        calls = path.calls(reader, None, {}, [], lambda: None, lambda *outcome: None, 1 << 20, {})
        assert bench.pair.fast.access is not None
        access = bench.pair.fast.access
        found = [known_caller(access, "", [("x", "y"), ("authorization", f"Bearer {KEYS[name]}")]) for name in KEYS]
        assert [each and each.name for each in found] == list(KEYS)
        assert [calls.take(7, text, None, each) for each in found] == [True, False, True]
        assert not calls.take(7, text, None, found[2])  # one is in flight

    async def with_the_same_requests(bench: Bench) -> None:
        await test(bench)
        reader = RequestReader(bench.pair.plain.engine)
        access = bench.pair.plain.access
        assert access is not None
        for name in ("ours", "limited"):
            identity = known_caller(access, "", [("x-api-key", KEYS[name])])
            bench.pair.plain.engine.submit(reader.read(text, None)[0], lambda answer: None, identity)
        await bench.pair.compare()
        await bench.expire()
        await bench.answer_all()

    run(with_the_same_requests, policy=POLICY)


def test_callers_are_known_while_their_credentials_are_valid() -> None:
    access = PolicyAccess(POLICY)
    metadata = [("traceparent", "1"), ("x-api-key", KEYS["ours"])]
    ours = known_caller(access, "here", metadata)
    assert ours is not None
    assert known_caller(access, "there", [("traceparent", "2"), metadata[1]]) is ours
    assert known_caller(access, "here", [("x-api-key", "wrong")]) is None
    assert known_caller(access, "here", [metadata[1], metadata[1]]) is None
    access.apply(replace(POLICY, keys={}))
    assert known_caller(access, "here", metadata) is None
