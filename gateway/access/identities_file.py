"""The operator's file of identities (TOML), and the policy that it states together with the keys of its folder."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError

from gateway.access.jwks import check_url
from gateway.access.keys import DIGEST_FORM, read_digest
from gateway.access.policy import ANONYMOUS, Policy, Rights, TokenRules
from gateway.access.roles import read_roles
from gateway.config import SettingsError, explain
from gateway.domain.identity import Grants
from gateway.domain.quota import UNLIMITED, Quota, quota_from_json

_MAX_BYTES = 1 << 24
# No colon: the clients of tokens are called jwt:NAME.
_NAME = re.compile(r"[\w.@-]{1,100}", re.ASCII)

# A name as gateway/process/tls.py writes it.
_CERTIFICATE = re.compile(r"(CN|URI|DNS|email):\S.{0,999}")

# Signatures with public keys. With the others (HS256 …), whoever can check a token can also make one, so each front
# would have the issuer's secret.
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip


def _grants(roles: object) -> Grants:
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise ValueError('it must be a list of roles, such as ["infer:resnet*", "read"]')
    return read_roles(roles)


def _quota(table: object) -> Quota:
    if not isinstance(table, dict):
        raise ValueError("it must be a table of limits")
    return quota_from_json(table)


def _digest(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("it must be a string")
    return read_digest(value)


def _algorithm(value: object) -> object:
    if isinstance(value, str) and (value.lower() == "none" or value.startswith("HS")):
        raise ValueError("tokens need a signature with a public key, such as RS256 or ES256")
    return value


def _certificate(name: str) -> str:
    if not _CERTIFICATE.fullmatch(name):
        raise ValueError('it must be a name in the certificate, such as "URI:spiffe://a/b", "DNS:web.a" or "CN:web"')
    return name


_Roles = Annotated[Grants, PlainValidator(_grants)]
_QuotaTable = Annotated[Quota, PlainValidator(_quota)]
_Digests = list[Annotated[str, PlainValidator(_digest)]]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class AnonymousToml(_Table):
    roles: _Roles = read_roles(["health"])
    quota: _QuotaTable = UNLIMITED


class IdentityToml(_Table):
    key_sha256: _Digests = []
    certificate: list[Annotated[str, AfterValidator(_certificate)]] = []
    roles: _Roles
    quota: _QuotaTable = UNLIMITED


class KeysToml(_Table):
    folder: str = Field(min_length=1)


class JwtToml(_Table):
    jwks: Annotated[str, AfterValidator(check_url)] = Field(min_length=1)
    issuer: str = Field(min_length=1)
    audience: str | list[str] = Field(min_length=1)
    leeway_s: float = Field(30.0, ge=0, le=600)
    algorithms: list[Annotated[Algorithm, BeforeValidator(_algorithm)]] = Field(["RS256", "ES256"], min_length=1)
    identity_claim: str = Field("sub", min_length=1)
    roles_claim: str = Field("roles", min_length=1)
    roles: dict[str, _Roles] | None = None
    default_roles: _Roles = {}
    quota: _QuotaTable = UNLIMITED


class IdentitiesToml(_Table):
    anonymous: AnonymousToml = AnonymousToml()
    identities: dict[str, IdentityToml] = {}
    keys: KeysToml | None = None
    jwt: JwtToml | None = None


def read_file(path: Path, has_client_ca: bool = False) -> IdentitiesToml:
    """Read and check the file, for a server that asks for client certificates or does not. Raises SettingsError."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
        if len(raw) > _MAX_BYTES:
            raise SettingsError(f"identities: the file '{path}' is over {_MAX_BYTES >> 20} MiB")
        text = raw.decode("utf-8-sig")
        file = IdentitiesToml.model_validate(tomllib.loads(text))
    except OSError as error:
        raise SettingsError(f"identities: the file '{path}' cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not TOML: it is not UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    except ValidationError as error:
        raise SettingsError(_explain(path, error)) from None
    seen: dict[str, str] = {}
    for name, identity in file.identities.items():
        check_name(name, str(path))
        for digest in identity.key_sha256:
            other = seen.setdefault(digest, name)
            if other != name:
                raise SettingsError(f"{path}: '{other}' and '{name}' have the same key; make a key for each")
        for certificate in identity.certificate:
            other = seen.setdefault(certificate, name)
            if other != name:
                raise SettingsError(f"{path}: '{other}' and '{name}' have the same certificate, '{certificate}'")
        if identity.certificate and not has_client_ca:
            raise SettingsError(
                f"{path}: '{name}' has a client certificate, but the server asks for none; set tls_client_ca to the CA "
                "that issues them, or leave 'certificate' out"
            )
    return file


def check_name(name: str, where: str) -> None:
    """Raises SettingsError if this cannot be the name of an identity."""
    if not _NAME.fullmatch(name) or name == ANONYMOUS:
        raise SettingsError(
            f"{where}: '{name}' cannot be the name of an identity; use up to 100 letters, digits and . _ @ -, and not "
            f"'{ANONYMOUS}', whose roles are in [{ANONYMOUS}]"
        )


def _explain(path: Path, error: ValidationError) -> str:
    """Explain an error without repeating a key that was given in place of its digest."""
    location = error.errors()[0]["loc"]
    if "key_sha256" not in location:
        return explain(error, lambda key: path, IdentitiesToml)
    return f"{path}: '{'.'.join(map(str, location[:3]))}' is not a list of keys' digests; each must be {DIGEST_FORM}"


def build_policy(file: IdentitiesToml, folder_keys: Mapping[str, list[str]]) -> tuple[Policy, list[str]]:
    """Return the policy without the issuer's keys, and sentences about keys of the folder that grant nothing.

    folder_keys  name of the file → digests
    """
    keys = {digest: name for name, identity in file.identities.items() for digest in identity.key_sha256}
    problems = []
    for name, digests in folder_keys.items():
        if name not in file.identities:
            problems.append(f"the keys of '{name}' grant nothing, because there is no [identities.{name}]")
            continue
        for digest in digests:
            if keys.setdefault(digest, name) != name:
                problems.append(f"a key of '{name}' is not accepted, because '{keys[digest]}' has the same one")
    return Policy(
        Rights(file.anonymous.roles, file.anonymous.quota),
        {name: Rights(identity.roles, identity.quota) for name, identity in file.identities.items()},
        keys,
        None if file.jwt is None else _token_rules(file.jwt),
        certificates={each: name for name, identity in file.identities.items() for each in identity.certificate},
    ), problems


def _token_rules(jwt: JwtToml) -> TokenRules:
    return TokenRules(
        jwt.issuer,
        (jwt.audience,) if isinstance(jwt.audience, str) else tuple(jwt.audience),
        tuple(jwt.algorithms),
        jwt.leeway_s,
        jwt.identity_claim,
        jwt.roles_claim,
        jwt.roles,
        Rights(jwt.default_roles, jwt.quota),
    )


def key_folder(path: Path, file: IdentitiesToml) -> Path | None:
    """Return the folder of keys. Relative paths count from the folder of the file."""
    return None if file.keys is None else path.parent / file.keys.folder


def jwks_location(path: Path, file: IdentitiesToml) -> str | Path | None:
    """Return the URL or the file of the issuer's keys; None without [jwt]."""
    if file.jwt is None:
        return None
    return file.jwt.jwks if "://" in file.jwt.jwks else path.parent / file.jwt.jwks
