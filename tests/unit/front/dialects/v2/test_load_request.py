"""Requests to load a model that bring files: what is accepted, where it is written, and what remains of it."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.control import LoadModel
from gateway.domain.uploads import Uploads, fetch_upload, uploads_folder
from gateway.engine.fake import FakeEngine
from gateway.errors import InvalidRequest, ModelportError, TooLarge, Unavailable, Unsupported
from gateway.front.dialects.v2.load_request import load

CONTENT = b"\x00the weights"


def engine_with(run_dir: Path, max_bytes: int = 100) -> FakeEngine:
    engine = FakeEngine([], lambda request: [])
    engine.uploads = Uploads(uploads_folder(run_dir, 3), max_bytes)
    return engine


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_are_where_the_supervisor_fetches_them(tmp_path: Path) -> None:
    engine, found = engine_with(tmp_path), dict[str, bytes]()

    def fetch(request: LoadModel) -> None:
        found.update(files_below(fetch_upload(tmp_path, request.upload)))

    engine.handlers.add(LoadModel, fetch)
    text = base64.b64encode(CONTENT).decode()
    parameters = {"config": "{}", "file:1/model.onnx": text, "file:12/saved/data.bin": CONTENT}
    asyncio.run(load(engine, "m", parameters))
    assert found == {"1/model.onnx": CONTENT, "12/saved/data.bin": CONTENT}
    assert not files_below(tmp_path / "uploads")


def test_nothing_remains_of_a_request_that_the_supervisor_refuses(tmp_path: Path) -> None:
    engine = engine_with(tmp_path)

    def refuse(request: LoadModel) -> None:
        assert files_below(tmp_path / "uploads" / request.upload)
        raise Unavailable("no")

    engine.handlers.add(LoadModel, refuse)
    with pytest.raises(Unavailable):
        asyncio.run(load(engine, "m", {"config": "{}", "file:1/m": CONTENT}))
    assert not list((tmp_path / "uploads" / "3").iterdir())


PATHS = ["m", "1", "1/", "/1/m", "1//m", "1/../m", "1/./m", "1/.m", "0/m", "01/m", "-1/m", "x/m", "1/a\\b", "1/a\nb"]


@pytest.mark.parametrize(
    ("parameters", "error", "text"),
    [
        ({"file:1/m": CONTENT}, InvalidRequest, "must also have 'config', which may be {}"),
        ({"config": 3}, InvalidRequest, "'config' must be a string"),
        ({"config": None, "file:1/m": CONTENT}, InvalidRequest, "must also have 'config'"),
        ({"config": "x" * 300_000}, TooLarge, "over the limit of 262144"),
        ({"config": "{}", "file:1/m": 3}, InvalidRequest, "must be the content of a file"),
        ({"config": "{}", "file:1/m": "not base64"}, InvalidRequest, "'file:1/m' is not base64"),
        ({"config": "{}", "file:1/m": bytes(101)}, TooLarge, "over the limit of 100 bytes"),
        ({"config": "{}", "file:1/m": bytes(60), "file:1/n": bytes(60)}, TooLarge, "over the limit of 100 bytes"),
        ({"config": "{}", "file:1/m": b"", "file:1/m/n": b""}, InvalidRequest, "both a file and a folder"),
        ({"config": "{}", "file:1/" + "n" * 256: b""}, InvalidRequest, "does not name a file in a version"),
        ({"config": "{}", "file:1/" + "n/" * 1500 + "m": b""}, InvalidRequest, "does not name a file in a version"),
        ({"config": "{}", **{f"file:1/{n}": b"" for n in range(1001)}}, TooLarge, "over the limit of 1000"),
        ({"unload_dependents": True}, InvalidRequest, "there is no parameter 'unload_dependents'"),
        *[({"config": "{}", "file:" + path: b""}, InvalidRequest, "does not name a file in") for path in PATHS],
    ],
)
def test_what_is_refused_leaves_nothing(
    tmp_path: Path, parameters: dict[str, Any], error: type[ModelportError], text: str
) -> None:
    engine = engine_with(tmp_path)
    with pytest.raises(error) as caught:
        asyncio.run(load(engine, "m", parameters))
    assert text in str(caught.value)
    assert not engine.loaded
    assert not files_below(tmp_path)
    assert not list(tmp_path.glob("uploads/3/*"))


@pytest.mark.parametrize("name", ["", "a/b", "..", ".m", "a b", "m\n", "m" * 300])
def test_the_name_of_a_new_model_is_a_plain_one(tmp_path: Path, name: str) -> None:
    engine = engine_with(tmp_path)
    with pytest.raises(InvalidRequest):
        asyncio.run(load(engine, name, {"config": "{}", "file:1/m": CONTENT}))
    assert not files_below(tmp_path)


def test_without_permission_nothing_is_written() -> None:
    engine = FakeEngine([], lambda request: [])
    for parameters in ({"config": "{}"}, {"config": "{}", "file:1/m": CONTENT}):
        with pytest.raises(Unsupported):
            asyncio.run(load(engine, "m", parameters))
    assert not engine.loaded
