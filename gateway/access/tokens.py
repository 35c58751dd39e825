"""JSON Web Tokens, checked by PyJWT. Imported only if tokens are accepted, because it takes 13 MiB."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jwt

from gateway.access.policy import TokenRules, UnknownKey
from gateway.access.roles import known_roles, merge
from gateway.domain.identity import Grants
from gateway.errors import Unauthenticated, Unavailable, shorten

_MAX_NAME_LENGTH = 200
# The algorithms that a key is for, by its type and curve. A key is never used with another one, whatever a token says.
_ALGORITHMS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "the token has expired; get a new one"),
    (jwt.ImmatureSignatureError, "the token is not valid yet; get a new one, or set the clocks"),
    (jwt.InvalidAudienceError, "the token is for another audience; get one for this server"),
    (jwt.InvalidIssuerError, "the token is from another issuer; get one from the issuer of this server"),
    (jwt.InvalidSignatureError, "the signature of the token is not valid; get a new one"),
)


class Verified(NamedTuple):
    """name: of the client. expires: time.monotonic() seconds. key: what the token was signed with."""

    name: str
    grants: Grants
    expires: float
    key: Mapping[str, str]


class _Key(NamedTuple):
    kid: str | None
    algorithms: tuple[str, ...]
    key: Any
    jwk: Mapping[str, str]


class Verifier:
    def __init__(self, rules: TokenRules) -> None:
        self._rules = rules
        found = [_read_key(jwk, rules.algorithms) for jwk in rules.keys]
        self._keys = [key for key in found if key is not None]

    def verify(self, token: str) -> Verified:
        """Raises Unauthenticated, and Unavailable as long as no key is known."""
        rules = self._rules
        if not self._keys:
            raise Unavailable("tokens cannot be checked, because the keys of their issuer are not known yet; try later")
        try:
            header = jwt.get_unverified_header(token)
            key = self._find(header.get("alg"), header.get("kid"))
            claims = jwt.decode(
                token,
                key.key,
                algorithms=key.algorithms,
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=rules.leeway_s,
                options={
                    "require": ["exp", "iss", "aud", rules.identity_claim],
                    "enforce_minimum_key_length": True,
                },
            )
            expires = time.monotonic() + (int(claims["exp"]) + rules.leeway_s - time.time())
        except Unauthenticated:
            raise
        except jwt.MissingRequiredClaimError as error:
            raise Unauthenticated(f"the token has no claim '{shorten(error.claim)}'; get one that has") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Unauthenticated(_reason(error)) from None
        name = claims[rules.identity_claim]
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME_LENGTH or not name.isprintable():
            raise Unauthenticated(f"the claim '{rules.identity_claim}' of the token must be a name; get a new token")
        return Verified(f"jwt:{name}", self._grants(claims), expires, key.jwk)

    def _find(self, algorithm: object, kid: object) -> _Key:
        """Return the key that a token's header asks for. Raises Unauthenticated."""
        if algorithm not in self._rules.algorithms:
            accepted = ", ".join(self._rules.algorithms)
            raise Unauthenticated(f"tokens must be signed by {accepted}; get one that is")
        fitting = [key for key in self._keys if algorithm in key.algorithms and kid in (None, key.kid)]
        if not fitting:
            raise UnknownKey("the issuer of tokens has no such key; get a new token")
        if len(fitting) > 1:
            raise Unauthenticated("the token does not say which of the issuer's keys has signed it; it needs a 'kid'")
        return fitting[0]

    def _grants(self, claims: Mapping[str, Any]) -> Grants:
        rules = self._rules
        values = _values(_claim(claims, rules.roles_claim))
        if rules.roles is None:
            granted = known_roles(values)
        else:
            granted = merge(rules.roles[value] for value in values if value in rules.roles)
        return merge([rules.rights.grants, granted])


def _read_key(jwk: Mapping[str, str], allowed: tuple[str, ...]) -> _Key | None:
    """Return the key, or None if it fits none of the allowed algorithms, or is not valid."""
    algorithms = _ALGORITHMS.get((jwk["kty"], jwk.get("crv", "")), ())
    usable = tuple(each for each in algorithms if each in allowed and jwk.get("alg", each) == each)
    if not usable:
        return None
    try:
        return _Key(jwk.get("kid"), usable, jwt.PyJWK(dict(jwk), usable[0]).key, jwk)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """Return a claim by its name, or by a path such as realm_access.roles. Names may have dots as well."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _values(claim: Any) -> list[str]:
    """Return the values of a list, or of a text that has spaces between them, as the claim `scope` has."""
    if isinstance(claim, str):
        return claim.split()
    return [value for value in claim if isinstance(value, str)] if isinstance(claim, list) else []


def _reason(error: Exception) -> str:
    return next(
        (reason for kind, reason in _REASONS if isinstance(error, kind)), "the token cannot be read; get a new one"
    )
