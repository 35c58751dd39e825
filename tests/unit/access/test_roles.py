"""Roles become grants; whoever may do something with a model may also ask for its readiness."""

import pytest

from gateway.access.roles import known_roles, merge, read_roles
from gateway.domain.identity import Identity


@pytest.mark.parametrize(
    ("roles", "allowed", "denied"),
    [
        (["health"], [("health", "")], [("health", "resnet"), ("read", ""), ("metrics", "")]),
        (["health:res*"], [("health", ""), ("health", "resnet")], [("health", "bert"), ("infer", "resnet")]),
        (["infer"], [("infer", "a"), ("infer", ""), ("health", "a"), ("health", "")], [("read", "a"), ("admin", "a")]),
        (["infer:res*", "infer:bert"], [("infer", "resnet"), ("infer", "bert"), ("health", "bert")], [("infer", "x")]),
        (["read:res*"], [("read", ""), ("read", "resnet"), ("health", "resnet")], [("read", "bert"), ("infer", "res")]),
        (["admin:test-*"], [("admin", "test-1")], [("admin", ""), ("admin", "x"), ("read", "test-1")]),
        (["admin"], [("admin", ""), ("admin", "x")], [("read", ""), ("infer", "x")]),
        (["metrics:res*"], [("metrics", ""), ("health", "")], [("health", "resnet")]),
        ([], [], [("health", ""), ("infer", "x")]),
    ],
)
def test_what_roles_grant(roles, allowed, denied) -> None:
    identity = Identity("someone", read_roles(roles))
    assert [each for each in allowed if not identity.allows(*each)] == []
    assert [each for each in denied if identity.allows(*each)] == []


@pytest.mark.parametrize("role", ["infre", "Infer", "infer:", "", ":x", "infer resnet"])
def test_what_is_not_a_role(role: str) -> None:
    with pytest.raises(ValueError, match="is not a role; the roles are infer, read, admin, metrics, health"):
        read_roles([role])
    assert known_roles([role, "read:x"]) == read_roles(["read:x"])  # a token may have those of other servers


def test_roles_add_up() -> None:
    assert merge([read_roles(["infer:a"]), read_roles(["infer:b", "metrics"])]) == read_roles(
        ["infer:a", "infer:b", "metrics"]
    )
