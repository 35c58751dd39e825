"""Images through a real gateway: digits by every framework, settings that cannot fit, and `modelport predict`."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support import ROOT
from tests.support.environments import RUNTIMES
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.image_files import form, save
from tests.support.model_repositories import add_fake

Start = Callable[..., Gateway]
PNG = {"Content-Type": "image/png"}
FOUR = ROOT / "examples/digits/four.png"


@pytest.fixture(scope="module")
def digits(runtime_environment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    for name in RUNTIMES:
        runtime_environment(name)
    started = start_gateway(ROOT / "model_repo", tmp_path_factory.mktemp("digits")).wait_ready()
    yield started
    started.close()


def held_out(count: int) -> tuple[np.ndarray, np.ndarray]:
    with np.load(ROOT / "examples/digits/heldout.npz") as file:
        return file["image"][:count].astype(np.float32), file["label"][:count]


def drawn(image: np.ndarray, times: int) -> bytes:
    """Return a row of 64 values (16 is black) as an enlarged PNG."""
    levels = 255 - np.rint(image.reshape(8, 8) * 255 / 16).astype(np.uint8)
    return save(levels.repeat(times, axis=0).repeat(times, axis=1))


@pytest.mark.parametrize("times", [1, 8])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_drawn_digits_are_read_as_their_values_are(digits: Gateway, runtime: str, times: int) -> None:
    images, labels = held_out(40)
    raw = np.array(digits.infer(f"digits_{runtime}", {"image": images.tolist()})["scores"])
    reply = digits.post(f"/predict/digits_{runtime}", *form(*(drawn(image, times) for image in images)))
    assert reply.status == 200, reply.body
    predictions = reply.json()["predictions"]
    assert [best[0]["index"] for best in predictions] == raw.argmax(axis=1).tolist()
    assert [best[0]["label"] for best in predictions] == [str(index) for index in raw.argmax(axis=1)]
    assert np.mean([best[0]["index"] == label for best, label in zip(predictions, labels, strict=True)]) >= 0.95
    for best, scores in zip(predictions, raw, strict=True):
        assert [each["score"] for each in best] == pytest.approx([scores[each["index"]] for each in best], abs=0.02)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_picture_of_a_four(digits: Gateway, runtime: str) -> None:
    reply = digits.post(f"/predict/digits_{runtime}", FOUR.read_bytes(), PNG)
    best = reply.json()["predictions"]
    assert len(best) == 3
    assert best[0]["label"] == "4"
    assert best[0]["score"] > 0.9
    with httpx.Client(base_url=f"http://{digits.http}") as client:
        with FOUR.open("rb") as file:
            shown = client.post(f"/predictions/digits_{runtime}", files={"data": file}).json()
        assert next(iter(shown)) == "4"
        assert client.put(f"/predictions/digits_{runtime}/1", content=FOUR.read_bytes()).json() == shown


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl(digits: Gateway) -> None:
    def curl(path: str, *arguments: str) -> Any:
        done = subprocess.run(
            ["curl", "--silent", "--noproxy", "*", f"http://{digits.http}{path}", *arguments],
            capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        return json.loads(done.stdout)

    image = ["-H", "Content-Type: image/png", "--data-binary", f"@{FOUR}"]
    assert curl("/predict/digits_onnx", *image)["predictions"][0]["label"] == "4"
    both = curl("/predict/digits_onnx", "-F", f"a=@{FOUR}", "-F", f"b=@{FOUR}")["predictions"]
    assert [best[0]["label"] for best in both] == ["4", "4"]
    assert next(iter(curl("/predictions/digits_onnx", "-T", str(FOUR)))) == "4"
    assert next(iter(curl("/predictions/digits_onnx", "--data-binary", f"@{FOUR}"))) == "4"
    assert curl("/ping") == {"status": "Healthy"}


def test_what_cannot_fit_is_told_at_load(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    fits = '[preprocess]\nsize = [2, 2]\ncolour = "GRAY"\nlayout = "flat"\n'
    add_fake(repository, "good", toml=fits + "[postprocess]\ntop_k = 1")
    add_fake(repository, "shape", toml=fits.replace("2, 2", "2, 3"))
    add_fake(repository, "output", toml="[postprocess]\noutput = 'z'")
    add_fake(repository, "key", toml=fits + "colors = 1")
    running = gateway(repository).wait_ready()
    shown = {name: (entry["state"], entry["reason"]) for (name, _), entry in running.index().items()}
    assert shown["good"] == ("READY", "")
    assert shown["shape"] == (
        "UNAVAILABLE",
        "[preprocess] makes images of shape [-1, 6], but input 'x' needs [-1, 4] (-1 is any size); "
        "change size, color or layout",
    )
    assert shown["output"] == (
        "UNAVAILABLE", "[postprocess] is for output 'z', but there is none of that name; there are 'y'",
    )  # fmt: skip
    assert "there is no key 'preprocess.colors'" in shown["key"][1]
    image = save(np.array([[1, 2], [9, 3]], np.uint8))
    assert running.post("/predict/good", image, PNG).json()["predictions"] == [{"index": 2, "score": 18.0}]
    refused = running.post("/predict/shape", image, PNG)
    assert refused.status == 503
    assert "change size" in refused.json()["error"]
    # Once it is corrected, it is served without a restart.
    (repository / "shape" / "model.toml").write_text(fits)
    running.wait_served("shape")
    assert running.infer("shape", {"x": [[1, 2, 3, 4]]}) == {"y": [[2.0, 4.0, 6.0, 8.0]]}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    repository = tmp_path_factory.mktemp("served")
    pixels = '[preprocess]\nsize = [2, 2]\ncolour = "GRAY"\nlayout = "flat"\n'
    add_fake(repository, "plain", toml=pixels)
    labels = repository / "labelled" / "labels.txt"
    labels.parent.mkdir()
    labels.write_text("cat\ndog\ncow\nhen\n")
    add_fake(repository, "labelled", toml='labels = { y = "labels.txt" }\n' + pixels + "[postprocess]")
    two = [{"name": name, "datatype": "FP32", "shape": [-1, 2]} for name in ("a", "b")]
    outputs = [{**each, "name": each["name"] + "2"} for each in two]
    add_fake(repository, "two", inputs=two, outputs=outputs)
    words = {"datatype": "BYTES", "shape": [-1, 1]}
    add_fake(repository, "words", inputs=[{"name": "x", **words}], outputs=[{"name": "y", **words}])
    started = start_gateway(repository, tmp_path_factory.mktemp("scratch")).wait_ready()
    yield started
    started.close()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    np.save(tmp_path / "row.npy", np.array([[1, 2, 3, 4]], np.float32))
    np.save(tmp_path / "wide.npy", np.ones((1, 5), np.float32))
    np.save(tmp_path / "double.npy", np.array([[1.0, 2.0, 3.0, 4.0]]))
    np.save(tmp_path / "integers.npy", np.array([[1, 2, 3, 4]]))
    np.save(tmp_path / "yes.npy", np.ones((1, 4), np.bool_))
    np.save(tmp_path / "huge.npy", np.full((1, 4), 1e300))
    np.save(tmp_path / "many.npy", np.ones((50, 4), np.float32))
    np.save(tmp_path / "pair.npy", np.array([[5, 6]], np.float32))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "row.json").write_text("[[1, 2, 3, 4]]")
    (tmp_path / "note.txt").write_text("hello")
    (tmp_path / "image.png").write_bytes(save(np.array([[10, 40], [20, 30]], np.uint8)))
    (tmp_path / "other.jpg").write_bytes(save(np.full((8, 8), 100, np.uint8), "JPEG"))
    return tmp_path


def run(served: Gateway | None, folder: Path, *arguments: str, code: int = 0) -> str:
    """Return what the command prints: the answer, or if `code` is not 0, the one-sentence error."""
    url = ["--url", f"http://{served.http}"] if served else []
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "predict", *arguments, *url],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    if not code:
        assert done.stderr == ""
        return done.stdout
    assert done.stdout == ""
    assert done.stderr.startswith("modelport: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize(
    "value", ["[[1,2,3,4]]", "x=[[1,2,3,4]]", "@row.npy", "x=@row.npy", "@row.json", "@double.npy", "@integers.npy"]
)
def test_predict_prints_arrays_with_datatype_and_shape(served: Gateway, files: Path, value: str) -> None:
    assert run(served, files, "plain", "--input", value) == "y  FP32 [1, 4]\n[[2., 4., 6., 8.]]\n"


def test_predict_with_several_inputs(served: Gateway, files: Path) -> None:
    wanted = "a2  FP32 [1, 2]\n[[2., 4.]]\nb2  FP32 [1, 2]\n[[10., 12.]]\n"
    assert run(served, files, "two", "--input", "a=[[1,2]]", "--input", "b=[[5,6]]") == wanted
    assert run(served, files, "two", "--input", "a=[[1,2]]", "--input", "b=@pair.npy") == wanted
    alone = run(served, files, "two", "--input", "a=[[1,2]]", "--input", "b=@pair.npy", "--output", "b2")
    assert alone == wanted[wanted.index("b2") :]


def test_predict_shortens_what_is_long(served: Gateway, files: Path) -> None:
    shown = run(served, files, "plain", "--input", "@many.npy")
    assert shown.startswith("y  FP32 [50, 4]\n")
    assert "..." in shown
    assert len(shown.splitlines()) < 12


def test_predict_prints_strings(served: Gateway, files: Path) -> None:
    assert "'yesyes'" in run(served, files, "words", "--input", '[["yes"]]')


def test_predict_prints_labels(served: Gateway, files: Path) -> None:
    shown = [line.split() for line in run(served, files, "labelled", "--input", "@image.png").splitlines()]
    assert shown == [
        ["LABEL", "SCORE", "INDEX"],
        ["dog", "80", "1"],
        ["hen", "60", "3"],
        ["cow", "40", "2"],
        ["cat", "20", "0"],
    ]
    top = run(served, files, "labelled", "--input", "x=@image.png", "--top", "1")
    assert [line.split() for line in top.splitlines()] == shown[:2]
    both = run(served, files, "labelled", "--input", "@image.png", "--input", "@other.jpg", "--top", "1").splitlines()
    assert (both[0].strip(), both[3].strip()) == ("image.png", "other.jpg")
    assert both[5].split() == ["cat", "200", "0"]


def test_predict_prints_the_output_itself(served: Gateway, files: Path) -> None:
    wanted = "y  FP32 [1, 4]\n[[20., 80., 40., 60.]]\n"
    assert run(served, files, "plain", "--input", "@image.png") == wanted
    assert run(served, files, "labelled", "--input", "@image.png", "--output", "y") == wanted
    top = run(served, files, "plain", "--input", "@row.npy", "--top", "2").splitlines()
    assert [line.split() for line in top[1:]] == [["SCORE", "INDEX"], ["8", "3"], ["6", "2"]]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nosuch", "--input", "[1]"], 1, "there is no model 'nosuch'"),
        (["plain", "--input", "[1]", "--version", "7"], 1, "no version '7'"),
        (["plain", "--input", "z=[1]"], 1, "no input 'z'"),
        (["plain", "--input", "z=@image.png"], 1, "no input 'z'; it has x"),
        (["plain", "--input", "@wide.npy"], 1, "has shape [1, 5], expected [-1, 4]"),
        (["plain", "--input", "@yes.npy"], 1, "has datatype BOOL, expected FP32"),
        (["plain", "--input", "@huge.npy"], 2, "holds a number too large for FP32"),
        (["plain", "--input", "@row.npy", "--output", "z"], 1, "no output 'z'; there are 'y'"),
        (["plain", "--input", "[[1,2,3,4]]", "--output", "z"], 1, "no output 'z'"),
        (["two", "--input", "@image.png"], 1, "add [preprocess]"),
        (["two", "--input", "[1]"], 2, "name each: a=…, b=…"),
        (["two", "--input", "a=[1]", "--input", "a=[1]"], 2, "given twice"),
        (["two", "--input", "a=[[1],[2,3]]", "--input", "b=@pair.npy"], 2, "is ragged"),
        (["plain", "--input", "[[1,2"], 2, "is not JSON"),
        (["plain", "--input", "@none.npy"], 2, "cannot be read"),
        (["plain", "--input", "@objects.npy"], 2, "not an npy file of numbers"),
        (["plain", "--input", "@note.txt"], 2, "is not .npy, .json, JPEG"),
        (["plain", "--input", "@image.png", "--input", "@row.npy"], 2, "cannot be combined with other inputs"),
        (["plain", "--input", "[1]", "--top", "-1"], 2, "--top"),
    ],
)  # fmt: skip
def test_predict_says_what_is_wrong(served: Gateway, files: Path, arguments: list[str], code: int, says: str) -> None:
    assert says in run(served, files, *arguments, code=code)


def test_predict_without_a_gateway(served: Gateway, files: Path) -> None:
    shown = run(None, files, "plain", "--input", "[1]", "--url", "http://127.0.0.1:1", code=1)
    assert "no gateway answers at http://127.0.0.1:1" in shown
    assert "expected an address such as" in run(None, files, "plain", "--input", "[1]", "--url", "here", code=2)
    metrics = run(None, files, "plain", "--input", "[1]", "--url", f"http://{served.metrics}", code=1)
    assert "the server at" in metrics
