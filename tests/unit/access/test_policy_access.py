"""Who sent a request: by key, by token, or nobody; and until when."""

from dataclasses import replace

import pytest

from gateway.access import access as module
from gateway.access.access import PolicyAccess
from gateway.access.jwks import parse_keys
from gateway.access.keys import digest_of
from gateway.access.policy import NO_ADMIN, Policy, Rights, TokenRules
from gateway.access.roles import read_roles
from gateway.domain.caller import Caller
from gateway.domain.identity import Identity
from gateway.errors import Forbidden, Unauthenticated, Unavailable
from gateway.process.tls import UNREADABLE
from tests.support.tokens import AUDIENCE, ISSUER, Issuer, key_set

CI, CI2, WEB = ("mp_" + letter * 43 for letter in "Abc")
FIRST, SECOND = Issuer("1"), Issuer("2")
RULES = TokenRules(
    ISSUER, (AUDIENCE,), ("ES256",), 5.0, "sub", "roles", None, Rights({}), parse_keys(key_set(FIRST, SECOND))
)
POLICY = Policy(
    Rights(read_roles(["health"])),
    {"ci": Rights(read_roles(["infer"])), "web": Rights(read_roles(["read"]))},
    {digest_of(CI): "ci", digest_of(CI2): "ci", digest_of(WEB): "web"},
    RULES,
)


def identify(access: PolicyAccess, credentials: str = "") -> Identity:
    headers = [("host", "here"), *([("authorization", f"Bearer {credentials}")] if credentials else [])]
    return access.identify(Caller("127.0.0.1:1", headers))


def test_each_client_is_found_by_its_keys() -> None:
    access = PolicyAccess(POLICY)
    assert [identify(access, key).name for key in (CI, CI2, WEB)] == ["ci", "ci", "web"]
    assert identify(access, CI) is identify(access, CI)
    assert identify(access, CI).allows("infer", "m")
    assert not identify(access, WEB).allows("infer", "m")
    anonymous = identify(access)
    assert (anonymous.name, anonymous.anonymous) == ("anonymous", True)
    assert (anonymous.allows("health"), anonymous.allows("health", "m")) == (True, False)


def test_a_certificate_is_a_client_unless_the_request_has_credentials() -> None:
    policy = replace(POLICY, certificates={"CN:web": "web", "DNS:web.example": "web", "URI:spiffe://a/ci": "ci"})
    access = PolicyAccess(policy)

    def named(*names: str, key: str = "") -> Identity:
        return access.identify(Caller("127.0.0.1:1", [("x-api-key", key)] if key else [], names))

    web, ci = named("CN:web"), named("CN:host", "URI:spiffe://a/ci")
    assert (web.name, ci.name) == ("web", "ci")
    assert named("CN:web", "DNS:web.example") is named("DNS:web.example") is web
    assert named("CN:web", key=CI).name == "ci"
    with pytest.raises(Unauthenticated, match="the API key is not valid"):
        named("CN:web", key="wrong")
    with pytest.raises(Unauthenticated, match="names that are not valid"):
        named(UNREADABLE)
    assert named(UNREADABLE, key=CI).name == "ci"
    assert PolicyAccess(POLICY).identify(Caller("", [], (UNREADABLE,))).anonymous, "nobody is known by a certificate"
    with pytest.raises(Unauthenticated, match="the names of several identities"):
        named("CN:web", "URI:spiffe://a/ci")
    nobody = named("CN:Web", "DNS:web", "URI:spiffe://a/ci/")
    assert nobody is named()
    with pytest.raises(Unauthenticated, match="a client certificate with a name that the server knows"):
        nobody.check("infer", "m")
    access.apply(replace(policy, keys={}))
    assert web.is_valid, "nothing about it has changed"
    assert nobody.is_valid
    access.apply(replace(policy, certificates={"CN:web": "web", "CN:Web": "ci", "URI:spiffe://a/ci": "ci"}))
    assert [web.is_valid, ci.is_valid] == [False, False]
    assert not nobody.is_valid, "heads of those who are known now must not be remembered as those of nobody"
    assert (named("CN:web").name, named("DNS:web.example").name, named("CN:Web").name) == ("web", "anonymous", "ci")


def test_a_certificate_of_whose_names_another_becomes_a_client_is_nobody_any_more() -> None:
    names = ("CN:web", "URI:spiffe://a/ci")
    policy = replace(POLICY, certificates={names[0]: "web"})
    access = PolicyAccess(policy)
    web = access.identify(Caller("127.0.0.1:1", [], names))
    access.apply(replace(policy, certificates={names[0]: "web", names[1]: "ci"}))
    assert not web.is_valid, "what is remembered of it would be answered as before"
    with pytest.raises(Unauthenticated, match="the names of several identities"):
        access.identify(Caller("127.0.0.1:1", [], names))


@pytest.mark.parametrize("wrong", [CI[:-1], CI.lower(), CI + "x", "x", digest_of(CI), "mp_" + "d" * 43])
def test_wrong_keys_are_refused(wrong: str) -> None:
    with pytest.raises(Unauthenticated, match="the API key is not valid") as caught:
        identify(PolicyAccess(POLICY), wrong)
    assert wrong == "x" or wrong not in str(caught.value)


def test_headers_are_remembered_one_by_one() -> None:
    access = PolicyAccess(POLICY)
    found = identify(access, CI)
    assert identify(access, CI) is found
    for headers in (
        [("x-api-key", f"Bearer {CI}")],
        [("authorization", CI)],
        [("authorization", f"Bearer {CI}")] * 2,
        [("authorization", f"Bearer {CI}"), ("x-api-key", WEB)],
        [("x-api-key", WEB), ("authorization", f"Bearer {CI}")],
    ):
        with pytest.raises(Unauthenticated):
            access.identify(Caller("127.0.0.1:1", headers))
    assert access.identify(Caller("127.0.0.1:1", [("x-api-key", CI), ("authorization", f"Bearer {CI}")])) is found


def test_long_headers_are_not_remembered() -> None:
    """A client could fill the memory by spaces around its key."""
    access = PolicyAccess(POLICY)
    for number in range(5):
        headers = [("authorization", f"Bearer {' ' * (5000 + number)}{CI}")]
        assert access.identify(Caller("127.0.0.1:1", headers)).name == "ci"
    assert not access._headers.entries


def test_digests_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lookup before depends on the whole digest, and on a random number of the process: see PolicyAccess."""
    compared: list[tuple[str, str]] = []
    monkeypatch.setattr(module, "compare_digest", lambda a, b: compared.append((a, b)))
    with pytest.raises(Unauthenticated):
        identify(PolicyAccess(POLICY), CI)
    assert compared == [(digest_of(CI), digest_of(CI))]


def test_only_what_changes_is_withdrawn() -> None:
    """Heads that are remembered with an identity stay known as long as it is valid."""
    access = PolicyAccess(POLICY)
    ci, ci2, web, anonymous = (identify(access, key) for key in (CI, CI2, WEB, ""))
    keys = {digest: name for digest, name in POLICY.keys.items() if digest != digest_of(CI)}
    access.apply(replace(POLICY, keys=keys))
    assert [each.is_valid for each in (ci, ci2, web, anonymous)] == [False, True, True, True]
    assert identify(access, CI2) is ci2
    with pytest.raises(Unauthenticated):
        identify(access, CI)
    access.apply(replace(POLICY, clients={**POLICY.clients, "web": Rights(read_roles(["read", "infer"]))}))
    assert [each.is_valid for each in (ci, ci2, web, anonymous)] == [False, True, False, True]
    assert identify(access, WEB).allows("infer", "m")
    assert identify(access, CI).is_valid
    access.apply(replace(POLICY, anonymous=Rights(read_roles(["read"]))))
    assert [each.is_valid for each in (ci2, anonymous)] == [True, False]
    assert identify(access).allows("read", "m")


def test_a_key_may_pass_to_another_client() -> None:
    access = PolicyAccess(POLICY)
    ci = identify(access, CI)
    access.apply(replace(POLICY, keys={**POLICY.keys, digest_of(CI): "web"}))
    assert not ci.is_valid
    assert identify(access, CI).name == "web"


def test_tokens_are_checked_once() -> None:
    access = PolicyAccess(POLICY)
    token = FIRST.token(roles=["infer:m"])
    found = identify(access, token)
    assert (found.name, found.allows("infer", "m"), found.allows("infer", "x")) == ("jwt:ada", True, False)
    assert identify(access, token) is found
    found.expires = 0.0  # its time is over
    assert identify(access, token) is not found
    with pytest.raises(Unauthenticated, match="has expired"):
        identify(access, FIRST.token(exp=1))


def test_tokens_are_withdrawn_with_their_key_or_rules() -> None:
    access = PolicyAccess(POLICY)
    first, second = (identify(access, issuer.token()) for issuer in (FIRST, SECOND))
    access.apply(replace(POLICY, anonymous=Rights({})))
    assert (first.is_valid, second.is_valid) == (True, True)
    access.apply(replace(POLICY, tokens=replace(RULES, keys=parse_keys(key_set(SECOND, Issuer("3"))))))
    assert (first.is_valid, second.is_valid) == (False, True)
    access.apply(replace(POLICY, tokens=replace(RULES, leeway_s=6.0)))
    assert not second.is_valid
    access.apply(replace(POLICY, tokens=None))
    with pytest.raises(Unauthenticated, match="this server accepts no tokens; send an API key"):
        identify(access, SECOND.token())


def test_unknown_keys_of_the_issuer_are_reported() -> None:
    asked: list[int] = []
    access = PolicyAccess(POLICY, on_unknown=lambda: asked.append(1))
    new = Issuer("3")
    with pytest.raises(Unauthenticated, match="no such key"):
        identify(access, new.token())
    with pytest.raises(Unauthenticated):
        identify(access, FIRST.token() + "x")
    assert asked == [1]
    access.apply(replace(POLICY, tokens=replace(RULES, keys=parse_keys(key_set(new)))))
    assert identify(access, new.token()).is_valid
    access.apply(replace(POLICY, tokens=replace(RULES, keys=())))
    with pytest.raises(Unavailable):
        identify(access, new.token())


def test_wrong_tokens_evict_no_good_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_TOKENS", 3)
    access = PolicyAccess(POLICY)
    good = [identify(access, FIRST.token(sub=name)) for name in "abc"]
    for number in range(10):
        with pytest.raises(Unauthenticated):
            identify(access, Issuer("1").token(sub=str(number)))
    assert all(each.is_valid for each in good)
    assert len(access._tokens) == 3
    identify(access, FIRST.token(sub="d"))
    # A head that is remembered with the evicted one is identified again, so that it can be withdrawn.
    assert [each.is_valid for each in good] == [False, True, True]
    assert len(access._tokens) == 3


def test_on_a_network_without_identities_nobody_changes_the_server() -> None:
    anyone = identify(PolicyAccess(NO_ADMIN))
    for action in ("infer", "read", "metrics", "health"):
        anyone.check(action, "m")
    with pytest.raises(Forbidden, match=r"nobody may change it over the network; .* --allow-anonymous-admin"):
        anyone.check("admin", "m")
    proxied = Caller("127.0.0.1:1", [("authorization", "Basic dXNlcjpwYXNz")])
    assert PolicyAccess(NO_ADMIN).identify(proxied).name == "anonymous"
