"""The operator's file: what it states, and a sentence for each mistake, which never repeats a key."""

from pathlib import Path

import pytest

from gateway.access import identities_file
from gateway.access.identities_file import build_policy, jwks_location, key_folder, read_file
from gateway.access.policy import Policy, Rights, TokenRules, policy_from_json, policy_to_json
from gateway.access.roles import read_roles
from gateway.config import SettingsError
from gateway.domain.quota import Quota

A, B = "a" * 64, "b" * 64
FILE = f"""
[anonymous]
roles = ["health:*"]
[identities.ci]
key_sha256 = ["{A}", "sha256:{B}"]
roles = ["infer:resnet*", "read"]
[identities.ci.quota]
requests_per_second = 10
[identities.web]
roles = ["infer"]
[keys]
folder = "keys"
[jwt]
jwks = "keys.json"
issuer = "https://issuer.example"
audience = "modelport"
leeway_s = 5
default_roles = ["health"]
[jwt.roles]
team-a = ["infer:a-*"]
"""


def _read(tmp_path: Path, text: str, has_client_ca: bool = False) -> Policy:
    (tmp_path / "identities.toml").write_text(text)
    return build_policy(read_file(tmp_path / "identities.toml", has_client_ca), {})[0]


def test_what_a_file_states(tmp_path: Path) -> None:
    policy = _read(tmp_path, FILE)
    assert policy == Policy(
        Rights(read_roles(["health:*"])),
        {
            "ci": Rights(read_roles(["infer:resnet*", "read"]), Quota(requests_per_second=10)),
            "web": Rights(read_roles(["infer"])),
        },
        {A: "ci", B: "ci"},
        TokenRules(
            "https://issuer.example", ("modelport",), ("RS256", "ES256"), 5.0, "sub", "roles",
            {"team-a": read_roles(["infer:a-*"])}, Rights(read_roles(["health"])),
        ),
    )  # fmt: skip
    assert policy_from_json(policy_to_json(policy)) == policy
    file = read_file(tmp_path / "identities.toml")
    assert key_folder(tmp_path / "identities.toml", file) == tmp_path / "keys"
    assert jwks_location(tmp_path / "identities.toml", file) == tmp_path / "keys.json"


def test_without_anything_only_health_is_open(tmp_path: Path) -> None:
    assert _read(tmp_path, "") == Policy(Rights(read_roles(["health"])), {}, {})


def test_certificates_need_a_server_that_asks_for_them(tmp_path: Path) -> None:
    text = '[identities.web]\nroles = ["infer"]\ncertificate = ["CN:web", "URI:spiffe://a/web"]'
    policy = _read(tmp_path, text, has_client_ca=True)
    assert policy.certificates == {"CN:web": "web", "URI:spiffe://a/web": "web"}
    assert policy_from_json(policy_to_json(policy)) == policy
    with pytest.raises(SettingsError, match="'web' has a client certificate, but the server asks for none"):
        _read(tmp_path, text)


def test_keys_of_the_folder_need_an_identity(tmp_path: Path) -> None:
    (tmp_path / "identities.toml").write_text(FILE)
    file = read_file(tmp_path / "identities.toml")
    policy, problems = build_policy(file, {"web": ["c" * 64, A], "gone": ["d" * 64]})
    assert policy.keys == {A: "ci", B: "ci", "c" * 64: "web"}
    assert problems == [
        "a key of 'web' is not accepted, because 'ci' has the same one",
        "the keys of 'gone' grant nothing, because there is no [identities.gone]",
    ]


SECRET = "mp_thisisasecretthatmustnotbeshown"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("roles =", "identities.toml is not TOML"),
        ("x = 1", "there is no key 'x'; the keys are anonymous, identities, jwt, keys"),
        ("[identities.ci]", "the key 'identities.ci.roles' is missing"),
        ('[identities.ci]\nrols = []\nroles = []', "no key 'identities.ci.rols'; the keys are certificate, key_sha"),
        ('[identities.ci]\nroles = []\ncertificate = ["web"]', 'such as "URI:spiffe://a/b", "DNS:web.a" or "CN:web"'),
        ('[identities.ci]\nroles = []\ncertificate = ["CN: web"]', 'such as "URI:spiffe://a/b"'),
        (
            '[identities.a]\nroles = []\ncertificate = ["CN:x"]\n[identities.b]\nroles = []\ncertificate = ["CN:x"]',
            "'a' and 'b' have the same certificate, 'CN:x'",
        ),
        ('[identities.ci]\nroles = ["infre"]', "'infre' is not a role; the roles are infer, read, admin"),
        ('[identities.ci]\nroles = "infer"', "must be a list of roles"),
        (f'[identities.ci]\nroles = []\nkey_sha256 = ["{SECRET}"]', "each must be a SHA-256 digest of 64"),
        ('[identities."a:b"]\nroles = []', "'a:b' cannot be the name of an identity"),
        ("[identities.anonymous]\nroles = []", "'anonymous' cannot be the name of an identity"),
        (
            f'[identities.a]\nroles = []\nkey_sha256 = ["{A}"]\n[identities.b]\nroles = []\nkey_sha256 = ["{A}"]',
            "'a' and 'b' have the same key; make a key for each",
        ),
        ("[identities.ci]\nroles = []\nquota.requests = 1", "there is no limit 'requests'; the limits are"),
        ("[jwt]\njwks = 'k'\nissuer = 'i'", "the key 'jwt.audience' is missing"),
        ("[jwt]\njwks = 'http://issuer.example'\nissuer = 'i'\naudience = 'a'", "use an https URL"),
        ("[jwt]\njwks = 'k'\nissuer = 'i'\naudience = 'a'\nalgorithms = ['none']", "a signature with a public key"),
        ("[jwt]\njwks = 'k'\nissuer = 'i'\naudience = 'a'\nalgorithms = ['HS256']", "a signature with a public key"),
        ("[jwt]\njwks = 'k'\nissuer = 'i'\naudience = 'a'\nalgorithms = ['XX']", "should be 'RS256', 'RS384'"),
        ("[jwt]\njwks = 'k'\nissuer = 'i'\naudience = 'a'\nroles.x = ['y']", "'y' is not a role"),
    ],
)  # fmt: skip
def test_mistakes_are_explained(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _read(tmp_path, text, has_client_ca=True)
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "identities.toml" in str(caught.value)


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"identities: the file '.*' cannot be read: No such file or directory"):
        read_file(tmp_path / "identities.toml")


def test_a_file_that_is_too_long_is_not_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[anonymous]\nroles = ["infer"]\n'
    path = tmp_path / "identities.toml"
    path.write_text(text + "[identities]\n")
    monkeypatch.setattr(identities_file, "_MAX_BYTES", len(text))
    with pytest.raises(SettingsError, match="is over 0 MiB"):
        read_file(path)
