"""URLs of models: what is accepted, and that secrets are never shown."""

import pytest

from gateway.remote.location import BadLocation, is_remote, parse


@pytest.mark.parametrize(
    ("text", "shown", "name"),
    [
        ("s3://bucket", "s3://bucket", "bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b", "b"),
        ("gs://my_bucket/models", "gs://my_bucket/models", "models"),
        ("az://container/models", "az://container/models", "models"),
        ("hf://org/repo", "hf://org/repo", "repo"),
        ("hf://org/repo@v1.0/onnx/model.onnx", "hf://org/repo@v1.0/onnx/model.onnx", "model.onnx"),
        ("https://host:8443/a/m.tar.gz", "https://host:8443/a/m.tar.gz", "m.tar.gz"),
        ("https://user:pw@host/m.zip?sig=SECRET#x", "https://host/m.zip", "m.zip"),
        ("https://host/my%20model.onnx", "https://host/my model.onnx", "my model.onnx"),
    ],
)
def test_urls(text: str, shown: str, name: str) -> None:
    location = parse(text)
    assert (str(location), location.name) == (shown, name)
    assert "SECRET" not in repr(location)
    assert "pw" not in repr(location)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ftp://user:SECRET@host/x", "cannot be read from ftp:// URLs"),
        ("s3://", "names no bucket"),
        ("s3://bucket/a?sig=SECRET", "have a bucket and a path only"),
        ("az://user:SECRET@container/a", "have a bucket and a path only"),
        ("s3://bucket/../other", "must not contain"),
        ("https://host/a%00b.zip?sig=SECRET", "must not contain control characters"),
        ("https://user:SECRET@host", "names no file"),
        ("https://user:SECRET@host:port/x.zip", "cannot be parsed"),
        ("hf://repo", "must look like hf://ORG/REPOSITORY"),
    ],
)
def test_urls_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(BadLocation, match=reason) as caught:
        parse(text)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("signed", "again"),
    [
        # An Azure SAS of an account, one of a user, and one of a stored policy.
        (
            "sv=2024-11-04&ss=b&srt=o&sp=r&se=2026-01-02&st=2026-01-01&spr=https&ses=scope&sig=a%2B",
            "sv=2025-01-05&ss=bf&srt=sco&sp=rl&se=2026-01-03&st=2026-01-02&spr=https&ses=scope&sig=b%3D",
        ),
        (
            "skoid=1&sktid=2&skt=3&ske=4&sks=b&skv=5&sip=1.2.3.4&saoid=6&suoid=7&scid=8&sdd=9&sv=1&sr=b&sig=a",
            "skoid=9&sktid=9&skt=9&ske=9&sks=b&skv=9&sip=4.3.2.1&saoid=9&suoid=9&scid=9&sdd=1&sv=2&sr=b&sig=b",
        ),
        ("si=policy&sr=b&sv=1&sig=a", "si=other&sr=b&sv=1&sig=b"),
        ("X-Amz-Date=1&X-Amz-Signature=a", "X-Amz-Date=2&X-Amz-Signature=b"),
        ("X-Goog-Date=1&X-Goog-Signature=a", "X-Goog-Date=2&X-Goog-Signature=b"),
        ("Expires=1&Signature=a&Key-Pair-Id=k&Policy=p", "Expires=2&Signature=b&Key-Pair-Id=l&Policy=q"),
    ],
)
def test_the_same_content_signed_again_is_the_same(signed: str, again: str) -> None:
    url = "https://host/m.zip?versionId=3"
    assert parse(f"{url}&{signed}").identity == parse(f"{url}&{again}").identity == parse(url).identity
    assert parse(url).identity != parse("https://host/m.zip?versionId=4").identity


def test_paths_are_not_urls() -> None:
    assert not any(map(is_remote, ["model_repo", "/models/a", "C:\\models", "a:b", "./s3:/x"]))
    assert all(map(is_remote, ["s3://b", "https://h/x", "ftp://h"]))
