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
        ("https://user:SECRET@host", "names no file"),
        ("https://user:SECRET@host:port/x.zip", "cannot be parsed"),
        ("hf://repo", "must look like hf://ORG/REPOSITORY"),
    ],
)
def test_urls_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(BadLocation, match=reason) as caught:
        parse(text)
    assert "SECRET" not in str(caught.value)


def test_paths_are_not_urls() -> None:
    assert not any(map(is_remote, ["model_repo", "/models/a", "C:\\models", "a:b", "./s3:/x"]))
    assert all(map(is_remote, ["s3://b", "https://h/x", "ftp://h"]))
