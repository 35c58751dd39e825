"""What `modelport push` sends, and the line that it prints."""

import base64
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from gateway.commands.connection import Connection
from gateway.commands.http_client import CommandError
from gateway.commands.push import _blocks, _configuration, _parts, collect, curl


def put(folder: Path, *files: str) -> Path:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file)
    return folder


@pytest.mark.parametrize(
    ("files", "pushed", "sent"),
    [
        (["m.onnx", "m.txt", "other.onnx"], "m.onnx", ["5/m.onnx", "5/m.txt"]),
        (["m.onnx", "m.tflite"], "m.onnx", ["5/m.onnx"]),
        (["m-symbol.json", "m-0000.params"], "m-symbol.json", ["5/m-symbol.json", "5/m-0000.params"]),
        (
            ["model.py", "helper.py", "requirements.txt"],
            "model.py",
            ["5/helper.py", "5/model.py", "5/requirements.txt"],
        ),
        (["saved_model.pb", "variables/v.index", ".git/x"], "", ["5/saved_model.pb", "5/variables/v.index"]),
        (["config.pbtxt", "1/m.onnx", "12/m.onnx", "labels.txt", "src/x.py"], "", ["1/m.onnx", "12/m.onnx"]),
        (["1/m.onnx", "1/sub/w.data", "1/.m.swp"], "", ["1/m.onnx", "1/sub/w.data"]),
    ],
)
def test_what_is_sent(tmp_path: Path, files: list[str], pushed: str, sent: list[str]) -> None:
    found = collect(put(tmp_path, *files) / pushed, "5")
    assert sorted(found) == sorted(sent)
    assert all(file.is_file() for file in found.values())


def test_what_cannot_be_sent(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="which cannot be sent"):
        collect(put(tmp_path / "a", "model.toml", "1/m.onnx"))
    (tmp_path / "b").mkdir()
    with pytest.raises(CommandError, match="has no files to send"):
        collect(tmp_path / "b")


def test_the_configuration(tmp_path: Path) -> None:
    folder = put(tmp_path, "1/m.onnx")
    assert _configuration(folder, None) == "{}"
    (folder / "config.pbtxt").write_text('name: "other" max_batch_size: 8 input { name: "x" dims: [-1] }')
    parsed = json.loads(_configuration(folder, None))
    assert parsed == {"max_batch_size": 8, "input": [{"name": "x", "dims": ["-1"]}]}
    (tmp_path / "c.json").write_text('{"max_batch_size": 3}')
    assert _configuration(folder, tmp_path / "c.json") == '{"max_batch_size": 3}'
    (folder / "config.pbtxt").write_text("no: configuration")
    with pytest.raises(CommandError, match="is not a model configuration"):
        _configuration(folder, None)


@pytest.mark.parametrize("size", [0, 1, 2, 3, (3 << 18) - 1, 3 << 18, (3 << 18) + 1])
def test_the_body_is_made_block_by_block(tmp_path: Path, size: int) -> None:
    file, sent = tmp_path / "m.onnx", list[int]()
    file.write_bytes(bytes(range(256)) * (size // 256) + bytes(range(size % 256)))
    body = b"".join(_parts('{"a": "é"}', ["1/m.onnx"], lambda _: _blocks(file, size, sent.append)))
    parameters = json.loads(body)["parameters"]
    assert parameters["config"] == '{"a": "é"}'
    assert base64.b64decode(parameters["file:1/m.onnx"], validate=True) == file.read_bytes()
    assert sum(sent) == size


@pytest.mark.parametrize("size", [99, 101])
def test_a_file_that_changes_while_it_is_sent(tmp_path: Path, size: int) -> None:
    """The gateway would wait for the rest, or take it for another request."""
    (tmp_path / "m.onnx").write_bytes(bytes(100))
    with pytest.raises(CommandError, match="has changed while it was being sent; push it again"):
        list(_blocks(tmp_path / "m.onnx", size, lambda _: None))


def test_a_file_that_vanishes_does_not_look_like_a_gateway_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"m\.onnx cannot be read: No such file"):
        list(_blocks(tmp_path / "m.onnx", 1, lambda _: None))


def tensor(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def test_the_line_for_curl() -> None:
    here, line = Connection("http://127.0.0.1:8000/"), "curl http://127.0.0.1:8000/v2/models/m/infer -d "
    given = [tensor("x", "FP32", -1, 2), tensor("it's", "BYTES", 1), tensor("b", "BOOL")]
    words = shlex.split(curl(here, "m", given))
    assert " ".join(words[:3]) + " " == line
    assert [each["data"] for each in json.loads(words[3])["inputs"]] == [[0, 0], [""], [False]]
    large = tensor("image", "FP32", -1, 3, 224, 224)
    assert curl(here, "m", [large]).endswith("/predict/m -H 'Content-Type: application/x-npy' --data-binary @input.npy")
    assert curl(here, "m", [large, large]) == "curl http://127.0.0.1:8000/v2/models/m"
    assert curl(here, "m", [tensor("x", "", -1), tensor("y", "", -1)]) == "curl http://127.0.0.1:8000/v2/models/m"
    secret = Connection("https://h", Path("/a b/ca.pem"), api_key="the key")
    line = curl(secret, "m", [large])
    assert "-H \"Authorization: Bearer $MODELPORT_API_KEY\" --cacert '/a b/ca.pem'" in line
    assert "the key" not in line
