"""The policy: who is known, by which keys, and what they may do. The supervisor publishes it to the fronts.

It has no secret: API keys as SHA-256 digests, and the public keys of the tokens' issuer.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gateway.access.roles import grants_from_json, read_roles
from gateway.domain.identity import Grants
from gateway.domain.quota import UNLIMITED, Quota, quota_from_json
from gateway.errors import Unauthenticated

ANONYMOUS = "anonymous"


@dataclass(frozen=True)
class Rights:
    grants: Grants
    quota: Quota = UNLIMITED


@dataclass(frozen=True)
class TokenRules:
    """Which JSON Web Tokens are accepted, and what they grant.

    audience        the token must be for one of these
    algorithms      of signatures
    leeway_s        how far the clocks of the issuer and of this machine may differ
    identity_claim  the claim that names the client
    roles_claim     the claim that lists its roles, or a path to it with dots
    roles           value of that claim → what it grants; None if the values are roles of this server
    rights          of every valid token
    keys            JSON Web Keys, with their public members only
    """

    issuer: str
    audience: tuple[str, ...]
    algorithms: tuple[str, ...]
    leeway_s: float
    identity_claim: str
    roles_claim: str
    roles: Mapping[str, Grants] | None
    rights: Rights
    keys: tuple[Mapping[str, str], ...] = ()


class UnknownKey(Unauthenticated):
    """A token's key is not among those of its issuer. It may be a new one, which has not been fetched yet."""


@dataclass(frozen=True)
class Policy:
    """clients: name → rights. keys: SHA-256 digest of an API key, in hexadecimal → name of its client.

    certificates  name in a client certificate, as gateway/process/tls.py writes it → name of its client
    refusal       what clients without credentials are told instead of being asked for some, if none would be accepted
    """

    anonymous: Rights
    clients: Mapping[str, Rights]
    keys: Mapping[str, str]
    tokens: TokenRules | None = None
    refusal: str = ""
    certificates: Mapping[str, str] = field(default_factory=dict)


# On a network, without identities.
NO_ADMIN = Policy(
    Rights(read_roles(["infer", "read", "metrics", "health:*"])),
    {},
    {},
    refusal="this server has no identities, so nobody may change it over the network; its operator can configure "
    "identities, require client certificates, or start it with --allow-anonymous-admin",
)


def policy_to_json(policy: Policy) -> dict[str, Any]:
    return asdict(policy)


def policy_from_json(raw: Mapping[str, Any]) -> Policy:
    tokens = raw["tokens"]
    return Policy(
        _rights(raw["anonymous"]),
        {name: _rights(rights) for name, rights in raw["clients"].items()},
        raw["keys"],
        None if tokens is None else _token_rules(tokens),
        raw["refusal"],
        raw["certificates"],
    )


def with_token_keys(policy: Policy, keys: tuple[Mapping[str, str], ...]) -> Policy:
    """Return the policy with these keys of the tokens' issuer."""
    return policy if policy.tokens is None else replace(policy, tokens=replace(policy.tokens, keys=keys))


def _rights(raw: Mapping[str, Any]) -> Rights:
    quota = {name: value for name, value in raw["quota"].items() if value is not None}
    return Rights(grants_from_json(raw["grants"]), quota_from_json(quota))


def _token_rules(raw: Mapping[str, Any]) -> TokenRules:
    roles = raw["roles"]
    changed = {
        "audience": tuple(raw["audience"]),
        "algorithms": tuple(raw["algorithms"]),
        "roles": None if roles is None else {value: grants_from_json(grants) for value, grants in roles.items()},
        "rights": _rights(raw["rights"]),
        "keys": tuple(raw["keys"]),
    }
    return TokenRules(**{**raw, **changed})
