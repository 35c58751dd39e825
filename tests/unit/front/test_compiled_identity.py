"""The compiled path finds a client by its metadata, and then it is who Access says; otherwise Access is asked."""

import asyncio
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.access import PolicyAccess
from gateway.access.policy import Policy, Rights
from gateway.engine.admission import AdmissionLimits
from gateway.engine.engine import FrontEngine
from gateway.front import fast
from gateway.front.base.access import known_caller
from gateway.front.base.limits import Limits

KEYS = {name: "mp_" + name * 40 for name in "ab"}
ANYONE, SOMEONE = Rights({}), Rights({"infer": ("*",)})
POLICY = Policy(ANYONE, dict.fromkeys(KEYS, SOMEONE), {sha256(key.encode()).hexdigest(): n for n, key in KEYS.items()})

_header = st.one_of(
    st.sampled_from(
        [
            *(("authorization", f"Bearer {key}") for key in KEYS.values()),
            *(("x-api-key", key) for key in KEYS.values()),
            ("authorization", KEYS["a"]),
            ("authorization", f"Bearer {KEYS['a']} "),
            ("authorization", "Bearer wrong"),
            ("authorization-bin", KEYS["a"].encode()),
            ("x-api-key", KEYS["a"].encode()),
            ("user-agent", "grpc-python/1.71"),
        ]
    ),
)


@pytest.fixture(scope="module")
def module() -> Any:
    loaded = fast.load(True)
    if loaded is None:
        pytest.skip("the compiled path is not built")
    return loaded


def calls_of(module: Any, access: PolicyAccess) -> Any:
    async def make() -> Any:
        engine = FrontEngine(1, AdmissionLimits(), lambda *_: asyncio.sleep(0), compiled=module)
        path = module.FastPath(engine, Limits())
        return path.calls(None, None, {}, [], lambda: None, lambda *_: None, 1 << 20, access.known_headers)

    return asyncio.run(make())


@given(st.lists(st.lists(_header, max_size=3), max_size=5))
def test_a_client_that_is_known_is_who_access_says(module: Any, calls: list[list[tuple[str, Any]]]) -> None:
    access = PolicyAccess(POLICY)
    found = calls_of(module, access)
    for metadata in [*calls, *map(tuple, calls)]:  # the library's are of either kind
        before = found.known_identity(metadata)
        identity = known_caller(access, "", metadata)
        assert before is None or before is identity
        credentials = [header for header in metadata if header[0] in ("authorization", "x-api-key")]
        if identity is not None and len(credentials) == 1:
            assert found.known_identity(metadata) is identity


def test_a_client_whose_key_was_withdrawn_is_known_no_more(module: Any) -> None:
    access = PolicyAccess(POLICY)
    found = calls_of(module, access)
    metadata = [("authorization", f"Bearer {KEYS['a']}")]
    identity = known_caller(access, "", metadata)
    assert found.known_identity(metadata) is identity is not None
    access.apply(Policy(ANYONE, {"b": SOMEONE}, {sha256(KEYS["b"].encode()).hexdigest(): "b"}))
    assert found.known_identity(metadata) is None
    assert known_caller(access, "", metadata) is None


def test_metadata_that_cannot_be_looked_up_is_left_to_access(module: Any) -> None:
    found = calls_of(module, PolicyAccess(POLICY))
    assert found.known_identity([]) is None
    assert found.known_identity([["authorization", "Bearer x"]]) is None
