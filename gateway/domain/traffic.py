"""How the requests that name no version of a model are divided among its versions, and which of them are copied."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from gateway.domain.types import ModelStatus
from runtimes.contract import Signature, TensorSpec


class Shadow(NamedTuple):
    """The version `version` gets a copy of this share of the requests that the version `of` answers."""

    version: str
    of: str
    share: float = 1.0


class Traffic(NamedTuple):
    """The traffic of one model.

    weights          version → how much of the requests without a version it gets, next to the others. Empty: the newest
                     version that is READY gets all
    sticky_header    requests with the same value in this header, in lower case, go to the same version; "" for none
    sticky_identity  the same for requests of the same identity
    shadow           None if no request is copied
    """

    weights: Mapping[str, float] = {}
    sticky_header: str = ""
    sticky_identity: bool = False
    shadow: Shadow | None = None

    @property
    def versions(self) -> set[str]:
        """The versions that it names."""
        return {*self.weights, *((self.shadow.version, self.shadow.of) if self.shadow else ())}


def traffic_from_json(raw: Sequence[Any]) -> Traffic:
    """Return what JSON has made of a Traffic."""
    weights, header, identity, shadow = raw
    return Traffic(weights, header, identity, Shadow(*shadow) if shadow else None)


@dataclass(frozen=True, slots=True)
class Division:
    """Which versions of a model get its requests without a version, now.

    primary  the one with the highest weight. It is what the model is to whoever does not name a version: dialects
             decode requests by its signature, and metadata describes it
    shares   version → its part of 1; the versions that get any
    reasons  version → why it gets none although it has a weight, in words
    """

    primary: ModelStatus
    shares: Mapping[str, float]
    reasons: Mapping[str, str]

    def choose(self, key: bytes) -> str:
        """Return the version for a key: a pure function, so that all fronts agree.

        If a version leaves, only its own keys move, to the others by their shares; if a share grows, keys only move to
        it (weighted rendezvous hashing).
        """
        if len(self.shares) == 1:
            return self.primary.version
        return min(self.shares, key=lambda version: _delay(key, version) / self.shares[version])


def _delay(key: bytes, version: str) -> float:
    """Return an exponentially distributed number that depends on the key and the version only."""
    digest = blake2b(version.encode() + b"\0" + key, digest_size=8).digest()
    return -math.log((int.from_bytes(digest, "big") + 1) / 2.0**64)


def divide(traffic: Traffic, versions: Iterable[ModelStatus]) -> Division | None:
    """Divide the traffic of a model. None if no version with a weight admits requests, or if there are no weights.

    A version that admits none, or whose signature the requests for the primary one may not fit, gets no share: it goes
    to the others.
    """
    found = {status.version: status for status in versions}
    reasons = not_ready(traffic, found.values())
    ready = {version: weight for version, weight in traffic.weights.items() if weight and version not in reasons}
    if not ready:
        return None
    primary = found[max(ready, key=lambda version: (ready[version], int(version)))]
    for version in list(ready):
        if problem := unlike(primary, found[version]):
            reasons[version] = problem
            del ready[version]
    total = sum(ready.values())
    return Division(primary, {version: weight / total for version, weight in ready.items()}, reasons)


def not_ready(traffic: Traffic, versions: Iterable[ModelStatus]) -> dict[str, str]:
    """Return the versions that have a weight and admit no requests, and why, in words."""
    found = {status.version: status for status in versions}
    reasons = {}
    for version, weight in traffic.weights.items():
        status = found.get(version)
        if weight and status is None:
            reasons[version] = "it is not loaded; add it to version_policy"
        elif weight and status is not None and not status.admits:
            reasons[version] = f"it is {status.state}: {status.reason or 'try again later'}"
    return reasons


def unlike(one: ModelStatus, other: ModelStatus) -> str:
    """Return why a request for one version may not fit the other, or its answer differ in form; "" if neither is so.

    A version that has not been loaded yet, because it is loaded on demand, is not known to differ.
    """
    if one is other:
        return ""
    if (one.decoupled, one.sequence) != (other.decoupled, other.sequence):
        return f"it is another kind of model than version {one.version}: only one of them is decoupled, or of sequences"
    if not other.signatures:
        return ""
    for name, signature in one.signatures.items():
        if name not in other.signatures:
            return f"it has no signature '{name}', which version {one.version} has"
        if problem := _unlike(signature, other.signatures[name], one.version):
            return problem
    if one.signatures and one.default_signature != other.default_signature:
        return (
            f"its default signature is '{other.default_signature}', and that of version {one.version} is "
            f"'{one.default_signature}'"
        )
    return ""


def _unlike(one: Signature, other: Signature, version: str) -> str:
    theirs = {spec.name: spec for spec in other.inputs}
    for spec in one.inputs:
        if spec.name not in theirs or not _covers(theirs[spec.name], spec):
            return f"its input '{spec.name}' differs from that of version {version}"
    known = {spec.name for spec in one.inputs}
    decisive = one.outputs if one.needs or other.needs else ()
    for asked in ([], *([spec.name] for spec in decisive)):
        more = set(other.needed_for(asked)).difference(one.needed_for(asked))
        for name in sorted(more):
            if name not in known:
                return f"it needs the input '{name}', which version {version} does not have"
            return f"it needs the input '{name}', which requests for version {version} may leave out"
    outputs = {spec.name: spec.datatype for spec in other.outputs}
    for spec in one.outputs:
        if outputs.get(spec.name) != spec.datatype:
            return f"its output '{spec.name}' differs from that of version {version}"
    for name in one.json:
        if name not in other.json:
            return f"its output '{name}' differs from that of version {version}"
    for spec in one.unbatched:
        if spec not in other.unbatched:
            return f"its input '{spec.name}' differs from that of version {version}"
    return ""


def _covers(wide: TensorSpec, spec: TensorSpec) -> bool:
    """Whether what fits `spec` fits `wide` as well."""
    if wide.datatype not in ("", spec.datatype):
        return False
    if wide.shape is None or spec.shape is None:
        return wide.shape is None
    return len(wide.shape) == len(spec.shape) and all(
        size in (-1, other) for size, other in zip(wide.shape, spec.shape, strict=True)
    )


def shadow_problem(shadow: ModelStatus, of: ModelStatus) -> str:
    """Return why a version cannot be the shadow of the other; "" if it can, or if that is not known yet."""
    if not shadow.signatures or not of.signatures:
        return ""
    for status in (shadow, of):
        if not status.is_plain or status.stateful:
            return (
                f"version {status.version} cannot be copied to or from: pipelines, sequences, models with state, with "
                "several answers, or that call others or see more than their tensors have no shadows"
            )
    problem = unlike(of, shadow)
    return f"version {shadow.version} cannot be the shadow of version {of.version}: {problem}" if problem else ""


def describe(traffic: Traffic) -> str:
    """Return the traffic of a model in words, for the log and the command line."""
    total = sum(traffic.weights.values())
    parts = [f"{percent(weight / total)} to version {name}" for name, weight in traffic.weights.items() if weight]
    text = "the newest version gets all requests without one"
    if parts:
        text = f"requests without a version: {', '.join(parts)}"
    if traffic.shadow is not None:
        shadow = traffic.shadow
        text += f"; version {shadow.version} shadows {percent(shadow.share)} of version {shadow.of}"
    return text


def percent(share: float) -> str:
    """Return a share as text: 0.125 is 12.5%."""
    return f"{share * 100:.4g}%"
