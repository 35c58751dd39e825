"""Finds out who sent a request, by the policy that the supervisor has published."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, NamedTuple

from gateway.access.credentials import NAMES, read_credentials
from gateway.access.policy import ANONYMOUS, Policy, Rights, TokenRules, UnknownKey
from gateway.domain.caller import Caller, Event, Header
from gateway.domain.identity import WANTED, Identity
from gateway.domain.quota import Quota, Usage
from gateway.errors import Unauthenticated
from gateway.process.tls import UNREADABLE
from runtimes.bounded_cache import BoundedCache

if TYPE_CHECKING:
    from gateway.access.tokens import Verifier

# Tokens, and headers, that are remembered. Only valid ones are, so that wrong ones evict none. With fewer, tokens of
# many clients are checked again and again, about 0.2 ms each; more are memory that one client can fill.
_MAX_TOKENS = 4096
# Longer headers are not remembered, because one client can send its key in many of them, with spaces around it. Their
# tokens still are.
_MAX_HEADER_LENGTH = 2048
# What a client without credentials is asked for, by servers that know some clients by their certificates.
_WANTED = "an API key, a token or a client certificate with a name that the server knows"

UsageOf = Callable[[str, Quota], Usage | None]


class _Key(NamedTuple):
    """An API key. digest: SHA-256, in hexadecimal."""

    digest: str
    name: str
    rights: Rights
    identity: Identity


class _Token(NamedTuple):
    """A token that was valid. key: the issuer's, with which it was signed."""

    identity: Identity
    key: object


class _Certified(NamedTuple):
    """A client with certificates."""

    rights: Rights
    identity: Identity


class PolicyAccess:
    """The Access (gateway/front/base/access.py) of a server with a policy. Not for several threads.

    record      is called with what the audit log records
    usage_of    returns what counts the use of the identity with this name and quota
    on_unknown  is called for a token with an unknown key, which the issuer may have published meanwhile
    """

    def __init__(
        self,
        policy: Policy,
        record: Callable[[Event], None] = lambda event: None,
        usage_of: UsageOf = lambda name, quota: None,
        on_unknown: Callable[[], None] = lambda: None,
    ) -> None:
        self.record = record
        self._usage_of, self._on_unknown = usage_of, on_unknown
        # By digest. A lookup compares hashes that depend on a random number of this process, so its time tells
        # nothing about the digests of other keys.
        self._keys: dict[str, _Key] = {}
        # Single headers that were valid. A lookup is like that of digests.
        self._headers: BoundedCache[Header, Identity] = BoundedCache(_MAX_TOKENS)
        self._certified: dict[str, _Certified] = {}  # by the client's name
        self._certificates: dict[str, Identity] = {}  # by a name in them
        self._tokens: dict[bytes, _Token] = {}
        self._verifier: Verifier | None = None
        self._policy = policy
        self._anonymous = self._new_anonymous(policy)
        self._use(policy, None)

    def apply(self, policy: Policy) -> None:
        """Replace the policy. Identities that it leaves as they were stay valid; the others are withdrawn."""
        previous, self._policy = self._policy, policy
        if _of_others(policy) != _of_others(previous):
            self._anonymous.withdrawn = True
            self._anonymous = self._new_anonymous(policy)
        self._use(policy, previous.tokens)

    def prepare(self) -> None:
        """Import what checks tokens, if they are accepted. Otherwise the first token waits for that, 0.1 s."""
        if self._policy.tokens is not None:
            self._find_verifier(self._policy.tokens)

    @property
    def known_headers(self) -> Mapping[Header, Identity]:
        """See Access."""
        return self._headers.entries

    def identify(self, caller: Caller) -> Identity:
        """Return who this is. Without credentials, the certificate of the connection says that, or else it is the
        anonymous identity. Raises Unauthenticated, and Unavailable as long as tokens cannot be checked.
        """
        if self._policy.refusal:
            return self._anonymous  # the credentials, if any, are those of a proxy in front
        header, count = None, 0
        for each in caller.headers:
            if each[0] in NAMES:
                header, count = each, count + 1
        if header is None:
            return self._of_certificate(caller.certificate) if caller.certificate else self._anonymous
        identity = self._headers.entries.get(header)
        if identity is None or count > 1 or not identity.is_valid:
            identity = self._identify(read_credentials(caller.headers))
            if count == 1 and len(header[1]) <= _MAX_HEADER_LENGTH:
                self._headers.put(header, identity)
        return identity

    def _of_certificate(self, names: Sequence[str]) -> Identity:
        if UNREADABLE in names and self._certificates:
            raise Unauthenticated(
                "the client certificate has names that are not valid, or too many of them; use another one, or a key"
            )
        found = {id(identity): identity for name in names if (identity := self._certificates.get(name)) is not None}
        if len(found) > 1:
            raise Unauthenticated(
                "the client certificate has the names of several identities; use one with the names of one of them"
            )
        return next(iter(found.values()), self._anonymous)

    def _identify(self, credentials: str | None) -> Identity:
        if credentials is None:
            return self._anonymous
        digest = sha256(credentials.encode())
        key = self._keys.get(digest.hexdigest())
        if key is not None and compare_digest(key.digest, digest.hexdigest()):
            return key.identity
        if credentials.count(".") == 2:
            return self._identify_token(credentials, digest.digest())
        raise Unauthenticated("the API key is not valid; ask the operator of this server for one")

    def _identify_token(self, token: str, digest: bytes) -> Identity:
        known = self._tokens.get(digest)
        if known is not None:
            if known.identity.is_valid:
                return known.identity
            del self._tokens[digest]
        rules = self._policy.tokens
        if rules is None:
            raise Unauthenticated("this server accepts no tokens; send an API key as Authorization: Bearer")
        try:
            name, grants, expires, key = self._find_verifier(rules).verify(token)
        except UnknownKey:
            self._on_unknown()
            raise
        identity = Identity(name, grants, expires=expires, usage=self._usage_of(name, rules.rights.quota))
        if len(self._tokens) >= _MAX_TOKENS:
            # What was found with it must not outlive what can be withdrawn.
            self._tokens.pop(next(iter(self._tokens))).identity.withdrawn = True
        self._tokens[digest] = _Token(identity, key)
        return identity

    def _find_verifier(self, rules: TokenRules) -> "Verifier":
        if self._verifier is None:
            from gateway.access.tokens import Verifier

            self._verifier = Verifier(rules)
        return self._verifier

    def _use(self, policy: Policy, previous: TokenRules | None) -> None:
        old, self._keys = self._keys, {}
        for digest, name in policy.keys.items():
            rights, known = policy.clients[name], old.get(digest)
            if known is not None and (known.name, known.rights) == (name, rights):
                self._keys[digest] = old.pop(digest)
            else:
                identity = Identity(name, rights.grants, usage=self._usage_of(name, rights.quota))
                self._keys[digest] = _Key(digest, name, rights, identity)
        for key in old.values():
            key.identity.withdrawn = True
        self._use_certificates(policy)
        if policy.tokens != previous:
            self._withdraw_tokens(policy.tokens, previous)

    def _use_certificates(self, policy: Policy) -> None:
        """A client has one identity for all of its certificates, which is withdrawn if its rights change.

        If any name has another client, all are withdrawn: a certificate may have that name as well.
        """
        old, self._certified = self._certified, {}
        is_same = policy.certificates == {name: identity.name for name, identity in self._certificates.items()}
        for name in sorted(set(policy.certificates.values())):
            rights = policy.clients[name]
            known = old.get(name)
            if known is not None and is_same and known.rights == rights:
                self._certified[name] = old.pop(name)
            else:
                identity = Identity(name, rights.grants, usage=self._usage_of(name, rights.quota))
                self._certified[name] = _Certified(rights, identity)
        for each in old.values():
            each.identity.withdrawn = True
        self._certificates = {
            certificate: self._certified[name].identity for certificate, name in policy.certificates.items()
        }

    def _withdraw_tokens(self, rules: TokenRules | None, previous: TokenRules | None) -> None:
        """Withdraw all tokens; if only the issuer's keys have changed, those that were signed with one that is gone."""
        self._verifier = None
        keys: tuple[Mapping[str, str], ...] = ()
        if rules is not None and previous is not None and replace(rules, keys=()) == replace(previous, keys=()):
            keys = rules.keys
        for digest, token in list(self._tokens.items()):
            if token.key not in keys:
                token.identity.withdrawn = True
                del self._tokens[digest]

    def _new_anonymous(self, policy: Policy) -> Identity:
        rights = policy.anonymous
        usage = None if policy.refusal else self._usage_of(ANONYMOUS, rights.quota)  # without identities, all are equal
        wanted = _WANTED if policy.certificates else WANTED
        return Identity(ANONYMOUS, rights.grants, anonymous=True, usage=usage, refusal=policy.refusal, wanted=wanted)


def _of_others(policy: Policy) -> tuple[object, ...]:
    """What decides who is anonymous, and what they may do."""
    return policy.anonymous, policy.refusal, policy.certificates
