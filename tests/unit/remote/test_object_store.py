"""obstore against a web server that fails in the usual ways: what is said, that it ends, and that no secret shows."""

import sys
from pathlib import Path
from typing import Any

import obstore
import pytest

from gateway.contents.errors import StoreError
from gateway.remote import object_store
from gateway.remote.layout import models_in, shape_of
from gateway.remote.location import parse
from gateway.remote.names import wanted
from gateway.remote.object_store import ObjectStore, Opened
from gateway.remote.store import Store, open_store
from tests.support.web_files import WebFiles


def opened(web: WebFiles) -> Store:
    return open_store(parse(f"{web.url}/model.onnx?Signature=SECRET".replace("http://", "http://user:SECRET@")))


def read(store: Store) -> bytes:
    (item,) = store.objects()
    return b"".join(store.read(item, Path()))


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "_RETRIES", 1)
    monkeypatch.setattr(object_store, "_STALL", "300ms")


def test_a_file_is_read_and_asked_for_by_its_etag() -> None:
    with WebFiles() as web:
        web.files["/model.onnx"] = bytes(range(256)) * 50_000
        store = opened(web)
        assert read(store) == web.files["/model.onnx"]
        store.objects()
        assert "If-None-Match".lower() in {name.lower() for name in web.headers[-1]}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("truncated", "the connection ended early, and the server cannot resume"),
        ("stalls", "the connection ended early, and the server cannot resume|no bytes arrived for 300ms"),
        ("no length", "does not announce the file's size"),
        (403, "access is denied"),
        (404, "it does not exist"),
        (500, "the store answered 500"),
        ("gone", "the connection is refused"),
    ],
)
def test_what_is_said_when_the_server(fault: str | int, reason: str) -> None:
    with WebFiles() as web:
        web.files["/model.onnx"] = b"x" * 1000
        store = opened(web)
        if isinstance(fault, int):
            web.status = fault
        elif fault != "gone":
            web.faults["/model.onnx"] = fault
        else:
            web.close()
        with pytest.raises(StoreError, match=reason) as caught:
            read(store)
        assert "SECRET" not in str(caught.value)


def test_a_file_that_changes_between_two_requests_is_refused() -> None:
    with WebFiles() as web:
        web.files["/model.onnx"] = b"old"
        store = opened(web)
        (item,) = store.objects()
        web.files["/model.onnx"] = b"new"
        with pytest.raises(StoreError, match="changed while it was being downloaded"):
            b"".join(store.read(item, Path()))


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for url, extra in (("s3://bucket/m", "remote"), ("hf://org/repo", "hf")):
        with pytest.raises(StoreError, match=rf"pip install 'modelport\[{extra}\]'"):
            open_store(parse(url))


class Bucket:
    """obstore as far as listings need it, which fails as obstore does for odd names."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.exceptions = obstore.exceptions

    def list(self, bucket: object, prefix: str | None = None, offset: str = "") -> "Bucket":
        return Bucket(*[name for name in self.names if name.startswith(prefix or "") and name > offset])

    def collect(self) -> Any:
        for name in self.names:
            if {"", "..", "."} & set(name.split("/")):
                raise obstore.exceptions.InvalidPathError(f'Path "{name}" contained empty path segment')
        return [{"path": name, "size": 1, "e_tag": '"1"'} for name in self.names]

    def list_with_delimiter(self, bucket: object, prefix: str | None = None) -> dict[str, object]:
        below = f"{prefix}/" if prefix else ""
        rest = [name.removeprefix(below) for name in self.names if name.startswith(below)]
        folders = sorted({below + name.split("/")[0] + "/" for name in rest if "/" in name})
        plain = [each.removesuffix("/") for each in folders]
        objects = Bucket(*plain, *[below + name for name in rest if "/" not in name]).collect()
        return {"objects": objects[len(folders) :], "common_prefixes": plain}


def test_a_name_that_obstore_cannot_parse_harms_only_its_folder() -> None:
    bucket = Bucket("r/a/1/model.onnx", "r/b/1//model.onnx", "r/b/2/model.onnx", "r/c/../x", "other//x")
    store = ObjectStore(parse("s3://bucket/r"), Opened(None, bucket))
    assert [item.name for item in store.objects()] == ["a/1/model.onnx", "b/1//..", "b/2/model.onnx", "c/.."]


@pytest.mark.parametrize("prefix", ["", "r/"])
def test_an_empty_part_at_the_top_harms_no_model(prefix: str) -> None:
    """As in `aws s3 cp x s3://bucket/r//x`."""
    bucket = Bucket(f"{prefix}/x", f"{prefix}a/1/model.onnx", f"{prefix}b/1/model.onnx")
    store = ObjectStore(parse(f"s3://bucket/{prefix}"), Opened(None, bucket))
    items = store.objects()
    assert [item.name for item in items] == ["/..", "a/1/model.onnx", "b/1/model.onnx"]
    models = models_in(items, shape_of(item.name for item in items), "r")
    assert {name: bool(model.problem) for name, model in models.items()} == {"": True, "a": False, "b": False}


def test_the_name_that_cannot_be_parsed_is_said() -> None:
    store = ObjectStore(parse("s3://bucket/r"), Opened(None, Bucket("r//x", "r/../y", "r/a/../x", "r/b/1/model.onnx")))
    with pytest.raises(StoreError, match=r"the name '.*' is refused: it is absolute, has an empty part"):
        wanted(store.objects())


@pytest.mark.parametrize(("listed", "got"), [('"abc"', '"abc"'), ("abc", '"abc"'), ('W/"abc"', 'W/"abc"')])
def test_etags_are_the_same_with_and_without_quotes(listed: str, got: str) -> None:
    meta = {"e_tag": listed, "last_modified": None}
    assert object_store._etag(meta) == object_store._etag(meta | {"e_tag": got})


def test_keys_of_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "credentials"
    file.write_text(
        "[default]\naws_access_key_id=A\naws_secret_access_key=B\n[p]\naws_access_key_id = C%\nregion = x\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    assert object_store._profile_keys() == {"access_key_id": "A", "secret_access_key": "B"}
    monkeypatch.setenv("AWS_PROFILE", "p")
    assert object_store._profile_keys() == {"access_key_id": "C%"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of the environment")
    assert object_store._profile_keys() == {}
