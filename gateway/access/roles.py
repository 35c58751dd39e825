"""Roles as operators and tokens write them: a role, or ROLE:PATTERN for the models whose names match the pattern."""

from collections.abc import Iterable, Mapping
from typing import get_args

from gateway.domain.identity import Action, Grants

ROLES: tuple[Action, ...] = get_args(Action)

# The pattern of what concerns the server and not its models: no model has this name.
_NO_MODEL = ""


def read_roles(roles: Iterable[str]) -> Grants:
    """Return what these roles grant. Raises ValueError, with one sentence for whoever wrote them.

    `health` alone is the health of the server, because readiness tells whether a model exists. Whoever may query, read
    or change a model may also ask for its readiness, and everyone with a role for the health of the server.
    """
    grants: dict[Action, dict[str, None]] = {}  # a dictionary as a set that keeps the order
    for role in roles:
        name, pattern = _split(role)
        grants.setdefault(name, {})[pattern] = None
        health = grants.setdefault("health", {})
        health[_NO_MODEL] = None
        if name != "metrics":
            health[pattern] = None
    return {action: tuple(patterns) for action, patterns in grants.items()}


def merge(several: Iterable[Grants]) -> Grants:
    """Return what all of them grant together."""
    merged: dict[Action, dict[str, None]] = {}
    for grants in several:
        for action, patterns in grants.items():
            merged.setdefault(action, {}).update(dict.fromkeys(patterns))
    return {action: tuple(patterns) for action, patterns in merged.items()}


def known_roles(values: Iterable[object]) -> Grants:
    """Like `read_roles`, for the claim of a token, which may have values for other servers as well."""
    return merge(read_roles([value]) for value in values if isinstance(value, str) and _is_role(value))


def grants_from_json(raw: Mapping[Action, Iterable[str]]) -> Grants:
    return {action: tuple(patterns) for action, patterns in raw.items()}


def _split(role: str) -> tuple[Action, str]:
    name, colon, pattern = role.partition(":")
    for known in ROLES:
        if name == known and (pattern or not colon):
            return known, pattern if colon else _NO_MODEL if known == "health" else "*"
    raise ValueError(
        f"'{role}' is not a role; the roles are {', '.join(ROLES)}, each alone or with a pattern of model names, "
        "such as infer:resnet*"
    )


def _is_role(value: str) -> bool:
    try:
        _split(value)
    except ValueError:
        return False
    return True
