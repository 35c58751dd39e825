"""Tokens: who signed them, for whom, until when, and what they grant. Forged ones are refused."""

import base64
import json
import time
from dataclasses import replace
from hmac import digest

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from gateway.access.jwks import parse_keys
from gateway.access.policy import Rights, TokenRules, UnknownKey
from gateway.access.roles import read_roles
from gateway.access.tokens import Verifier
from gateway.errors import Unauthenticated, Unavailable
from tests.support.tokens import AUDIENCE, ISSUER, Issuer, key_set

EC, RSA, ED = Issuer("ec"), Issuer("rsa", "RS256"), Issuer("ed", "EdDSA")
RULES = TokenRules(
    ISSUER, (AUDIENCE, "other"), ("RS256", "PS256", "ES256", "EdDSA"), 5.0, "sub", "roles", None,
    Rights(read_roles(["health"])), parse_keys(key_set(EC, RSA, ED)),
)  # fmt: skip
VERIFIER = Verifier(RULES)


def test_a_token_names_its_client_and_its_roles() -> None:
    for issuer in (EC, RSA, ED):
        found = VERIFIER.verify(issuer.token(roles=["infer:resnet*", "offline_access"]))
        assert found.name == "jwt:ada"
        assert found.grants == read_roles(["health", "infer:resnet*"])
        assert found.key["kid"] == issuer.kid
        assert 60 < found.expires - time.monotonic() <= 65
    assert VERIFIER.verify(EC.token(aud=["elsewhere", AUDIENCE])).grants == read_roles(["health"])


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"exp": int(time.time()) - 10}, "the token has expired"),
        ({"exp": None}, "the token has no claim 'exp'"),
        ({"exp": "soon"}, "the token cannot be read"),
        ({"exp": 1e400}, "the token cannot be read"),
        ({"nbf": int(time.time()) + 600}, "the token is not valid yet"),
        ({"aud": "elsewhere"}, "the token is for another audience"),
        ({"aud": None}, "the token has no claim 'aud'"),
        ({"iss": "https://evil.example"}, "the token is from another issuer"),
        ({"iss": None}, "the token has no claim 'iss'"),
        ({"sub": None}, "the token has no claim 'sub'"),
        ({"sub": "a\nb"}, "the claim 'sub' of the token must be a name"),
        ({"sub": ""}, "the claim 'sub' of the token must be a name"),
    ],
)
def test_claims_are_checked(claims, said: str) -> None:
    with pytest.raises(Unauthenticated, match=said):
        VERIFIER.verify(EC.token(**claims))


def test_clocks_may_differ_by_the_leeway() -> None:
    now = int(time.time())
    assert VERIFIER.verify(EC.token(exp=now - 2, nbf=now + 3)).expires < time.monotonic() + 5


def _encode(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def _forged(header: dict[str, object], signature: bytes = b"", secret: bytes = b"") -> str:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": now + 60, "roles": ["admin"]}
    text = f"{_encode(header)}.{_encode(claims)}"
    if secret:
        signature = digest(secret, text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


PEM = RSA.key.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)  # fmt: skip


@pytest.mark.parametrize(
    "token",
    [
        _forged({"alg": "none"}),
        _forged({"alg": "None", "kid": "rsa"}),
        _forged({"alg": "HS256", "kid": "rsa"}, secret=PEM),
        _forged({"alg": "HS256", "kid": "rsa"}, secret=RSA.jwk["n"].encode()),
        _forged({"alg": "RS256", "kid": "ec"}, b"x" * 64),
        _forged({"alg": "ES256", "kid": "ec"}, bytes(64)),
        _forged({"alg": "ES256", "kid": "rsa"}, bytes(64)),
        _forged({"alg": "ES256", "kid": ["ec"]}, bytes(64)),
        _forged({"alg": ["ES256"], "kid": "ec"}, bytes(64)),
        _forged({"alg": "ES256", "jwk": Issuer("mine").jwk}, bytes(64)),
        _forged({}),
        Issuer("ec").token(),
        EC.token({"crit": ["exp"]}),
        EC.token({"crit": ["b64"], "b64": False}),
        EC.token()[:-4],
        EC.token().replace(".", ".e30", 1),
        "..",
        "a.b.c",
        "é.b.c",
        f"{_encode({'alg': 'ES256', 'kid': 'ec'})}..",
        base64.urlsafe_b64encode(b"[" * 3000).decode() + ".e30.",
    ],
    ids=lambda token: token[:8],
)
def test_forged_tokens_are_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        VERIFIER.verify(token)


def test_a_key_is_found_by_its_id() -> None:
    with pytest.raises(UnknownKey):
        VERIFIER.verify(Issuer("new").token())
    only = Verifier(replace(RULES, keys=parse_keys(key_set(EC, RSA))))
    assert only.verify(jwt.encode(_claims(), EC.key, "ES256")).key["kid"] == "ec"  # without an id, one key fits
    both = Verifier(replace(RULES, keys=parse_keys(key_set(EC, Issuer("other")))))
    with pytest.raises(Unauthenticated, match="it needs a 'kid'"):
        both.verify(jwt.encode(_claims(), EC.key, "ES256"))
    with pytest.raises(Unavailable, match="the keys of their issuer are not known yet"):
        Verifier(replace(RULES, keys=())).verify(EC.token())


def _claims() -> dict[str, object]:
    return jwt.decode(EC.token(), options={"verify_signature": False})


def test_a_key_is_used_for_its_own_algorithm_only() -> None:
    with pytest.raises(Unauthenticated, match="tokens must be signed by RS256, PS256, ES256, EdDSA"):
        VERIFIER.verify(jwt.encode(_claims(), RSA.key, "RS512", {"kid": "rsa"}))
    narrow = {**RSA.jwk, "alg": "RS256"}
    verifier = Verifier(replace(RULES, keys=parse_keys(json.dumps({"keys": [narrow]}).encode())))
    assert verifier.verify(RSA.token()).name == "jwt:ada"
    with pytest.raises(UnknownKey):
        verifier.verify(jwt.encode(_claims(), RSA.key, "PS256", {"kid": "rsa"}))
    assert VERIFIER.verify(jwt.encode(_claims(), RSA.key, "PS256", {"kid": "rsa"})).name == "jwt:ada"


@pytest.mark.parametrize(
    ("claim", "claims"),
    [
        ("scope", {"scope": "openid team-a"}),
        ("realm_access.roles", {"realm_access": {"roles": ["team-a"]}}),
        ("https://example.com/roles", {"https://example.com/roles": ["team-a", 7]}),
    ],
)
def test_roles_are_mapped_from_any_claim(claim: str, claims) -> None:
    rules = replace(RULES, roles_claim=claim, roles={"team-a": read_roles(["infer:a-*"])}, rights=Rights({}))
    assert Verifier(rules).verify(EC.token(**claims)).grants == read_roles(["infer:a-*"])
    assert Verifier(rules).verify(EC.token(**{claim: "infer admin"})).grants == {}
    assert Verifier(replace(rules, identity_claim="client_id")).verify(EC.token(client_id="ci")).name == "jwt:ci"
