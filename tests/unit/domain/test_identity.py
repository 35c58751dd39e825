"""Who may do what: patterns of models, actions that concern none, and the end of credentials."""

import time

import pytest

from gateway.domain.identity import Action, Grants, Identity
from gateway.errors import Forbidden, Unauthenticated

GRANTS: Grants = {"infer": ("resnet*", "bert"), "read": ("resnet*",), "admin": ("test-?",), "metrics": ("*",)}


@pytest.mark.parametrize(
    ("action", "model", "allowed"),
    [
        ("infer", "resnet50", True),
        ("infer", "bert", True),
        ("infer", "Bert", False),
        ("infer", "bert2", False),
        ("infer", "", True),  # an answer that names no model says so itself
        ("read", "bert", False),
        ("read", "", True),  # a list, which leaves out what may not be read
        ("admin", "test-1", True),
        ("admin", "test-12", False),
        ("admin", "", False),  # what concerns all models needs a grant for all
        ("metrics", "", True),
        ("health", "", False),
    ],
)
def test_what_the_grants_allow(action: Action, model: str, allowed: bool) -> None:
    identity = Identity("someone", GRANTS)
    assert [identity.allows(action, model) for _ in range(2)] == [allowed] * 2
    if not allowed:
        with pytest.raises(Forbidden, match=f"^these credentials do not permit '{action}'"):
            identity.check(action, model)


def test_a_client_without_credentials_is_asked_for_them() -> None:
    anonymous = Identity("anonymous", {"health": ("*",)}, anonymous=True)
    anonymous.check("health")
    with pytest.raises(Unauthenticated, match="needs an API key or a token"):
        anonymous.check("infer", "resnet50")


def test_what_a_client_asks_for_is_not_remembered_without_limit() -> None:
    identity = Identity("someone", GRANTS)
    for number in range(5000):
        identity.allows("infer", f"resnet{number}")
    assert len(identity._allowed) <= 1024
    identity._allowed.clear()
    for number in range(5):
        assert identity.allows("infer", f"resnet{number}" + "x" * 10_000)
    assert not identity._allowed


def test_credentials_end_by_their_time_or_when_they_are_withdrawn() -> None:
    now = time.monotonic()
    assert not Identity("someone", {}, expires=now - 1).is_valid
    for identity in (Identity("someone", {}), Identity("someone", {}, expires=now + 3600)):
        assert identity.is_valid
        identity.withdrawn = True
        assert not identity.is_valid
