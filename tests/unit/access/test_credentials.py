"""Where credentials are found; what is ambiguous or cannot be used is refused, and never repeated."""

import pytest

from gateway.access.credentials import read_credentials
from gateway.errors import Unauthenticated

KEY = "mp_0123456789abcdef0123456789abcdef"
TOKEN = "eyJh.eyJz.c2ln"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], None),
        ([("accept", "*/*"), ("x-key", "a"), ("authorization-info", "Basic x")], None),
        ([("authorization", f"Bearer {KEY}")], KEY),
        ([("authorization", f"bearer   {KEY} ")], KEY),
        ([("authorization", f"ApiKey {KEY}")], KEY),
        ([("authorization", f"Bearer {TOKEN}")], TOKEN),
        ([("x-api-key", KEY)], KEY),
        ([("x-api-key", f" {KEY} ".encode())], KEY),
        ([("x-api-key", KEY), ("authorization", f"Bearer {KEY}")], KEY),
    ],
)
def test_credentials_are_found(headers, found) -> None:
    assert read_credentials(headers) == found


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([("authorization", "")], "Authorization must be Bearer, a space, and the API key or token; or leave it out"),
        ([("authorization", "Bearer")], "Authorization must be Bearer"),
        ([("authorization", "Bearer  ")], "Authorization must be Bearer"),
        ([("authorization", KEY)], "Authorization must be Bearer"),
        ([("authorization", f"Bearer {KEY}, Bearer {KEY}")], "Authorization must be Bearer"),
        ([("authorization", f"Bearer {KEY}\0")], "Authorization must be Bearer"),
        ([("authorization", f"Bearer {KEY}é")], "Authorization must be Bearer"),
        ([("authorization", f"Bearer {KEY}\xa0")], "Authorization must be Bearer"),
        ([("x-api-key", f"\xa0{KEY}")], "X-API-Key must have the API key alone"),
        (
            [("authorization", "Basic dXNlcjpwYXNz")],
            "the Basic scheme of Authorization is not accepted; send the API key",
        ),
        ([("authorization", "AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=0f")], "the AWS scheme"),
        ([("authorization", f"Token {KEY}")], "the Token scheme"),
        ([("x-api-key", "")], "X-API-Key must have the API key alone, or be left out"),
        ([("x-api-key", f"Bearer {KEY}")], "X-API-Key must have the API key alone"),
        ([("authorization", f"Bearer {KEY}")] * 2, "several Authorization headers"),
        ([("x-api-key", KEY)] * 2, "several X-API-Key headers"),
        ([("x-api-key", KEY), ("authorization", f"Bearer {TOKEN}")], "have different credentials; send one of them"),
        ([("x-api-key", KEY), ("authorization", "")], "Authorization must be Bearer"),
        ([("x-api-key", "a" * 8193)], "the credentials have 8193 characters; at most 8192 are accepted"),
    ],
)
def test_what_is_refused(headers, said: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        read_credentials(headers)
    message = str(caught.value)
    assert said in message
    assert KEY not in message
    assert "dXNlcjpwYXNz" not in message
    assert "AKIA" not in message
