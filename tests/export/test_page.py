"""Exported pages in a real browser: they check themselves, and classify digits like the original."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gateway.export.report import Report
from gateway.export.visit import served
from tests.export.conftest import make
from tests.support import ROOT
from tests.support.browser import Browser, Visit
from tests.support.gateway_process import Gateway
from tests.support.image_files import save

FOUR = ROOT / "examples" / "digits" / "four.png"
SEVEN = [[[0.35, 0.2], [0.65, 0.2], [0.6, 0.5], [0.4, 0.9]], [[0.3, 0.55], [0.75, 0.55]]]
Exported = Callable[..., tuple[Path, Report]]

WEIGHTS = "weights of it, 100 %.bin"
WAIT: dict[str, Any] = {"do": "wait"}
PAGE_STEPS = Path(__file__).parent / "page_steps.js"
DRAW_SEVEN: dict[str, Any] = {"do": "draw", "strokes": SEVEN, "pixels": True}


def upload(file: Path) -> dict[str, Any]:
    return {"do": "upload", "file": str(file)}


def alone(visit: Visit, address: str) -> None:
    """Check that the page loaded everything from its own folder, and that nothing was missing there."""
    assert {urlsplit(url).netloc for url in visit.asked if not url.startswith(("data:", "blob:"))} == {
        urlsplit(address).netloc
    }
    assert [text for text in visit.complaints if "INFO:" not in text and "WARNING:" not in text] == []


def ok(state: dict[str, Any], backend: str) -> None:
    assert (state["state"], state["problem"]) == ("ready", "")
    assert (state["check"]["verdict"], state["check"]["backend"]) == ("ok", backend), state["check"]
    assert float(state["check"]["relative"]) < 1e-5
    assert f"on backend {backend}: ok" in state["check"]["text"]


@pytest.fixture
def original(gateway: Callable[..., Gateway], tmp_path: Path) -> Callable[[bytes], str]:
    """Return the served original's label for a picture."""
    shutil.copytree(ROOT / "model_repo" / "digits_onnx", tmp_path / "repository" / "digits_onnx")
    started = gateway(tmp_path / "repository").wait_ready()

    def ask(picture: bytes) -> str:
        answer = started.post("/predict/digits_onnx", picture, {"Content-Type": "image/png"})
        return str(answer.json()["predictions"][0]["label"])

    return ask


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Held-out digits as images: one of each class, dark on light, of different sizes."""
    with np.load(ROOT / "examples" / "digits" / "heldout.npz") as heldout:
        images, labels = heldout["image"], heldout["label"]
    folder = tmp_path_factory.mktemp("digits")
    files = []
    for digit in range(10):
        levels = np.rint(255 - images[labels == digit][0].reshape(8, 8) * 255 / 16).astype(np.uint8)
        picture = np.kron(levels, np.ones((digit + 1, digit + 1), np.uint8))
        files.append(folder / f"{digit}.png")
        files[-1].write_bytes(save(picture))
    return files


def picture(state: dict[str, Any]) -> bytes:
    """Return the content of the page's canvas, as PNG."""
    return base64.b64decode(state["picture"].partition(",")[2])


def test_tfjs_on_every_backend(
    exported: Exported, browser: Browser, digits: list[Path], original: Callable[[bytes], str]
) -> None:
    folder, _ = exported("digits_onnx", "tfjs")
    backends = ["webgl", "wasm", "cpu"]
    steps = [WAIT]
    for backend in backends:
        steps += [{"do": "backend", "name": backend}, *map(upload, digits), {"do": "clear"}, DRAW_SEVEN]
    with served(folder) as address:
        visit = browser.visit(address, steps, actions=PAGE_STEPS)
    alone(visit, address)
    ok(visit.results[0], "webgl")
    assert visit.results[0]["backends"] == backends
    wanted = [original(file.read_bytes()) for file in digits]
    assert len(set(wanted)) > 8  # the model misclassifies some
    for backend in backends:
        ran = [state for state in visit.results[1:] if state["check"]["backend"] == backend]
        ok(ran[0], backend)
        assert [state["top"] for state in ran[1:11]] == wanted
        assert "top" not in ran[11]
        assert ran[12]["top"] == original(picture(ran[12])) == "7"


@pytest.mark.parametrize("model", ["digits_savedmodel", "digits_torchscript", "digits_mxnet"])
def test_tfjs_of_the_other_frameworks(
    model: str, exported: Exported, browser: Browser, runtime_environment: Callable[[str], Any]
) -> None:
    runtime_environment(model.removeprefix("digits_"))
    folder, _ = exported(model, "tfjs")
    steps: list[dict[str, Any]] = [WAIT]
    for backend in ("webgl", "wasm", "cpu"):
        steps += [{"do": "backend", "name": backend}, upload(FOUR)]
    with served(folder) as address:
        visit = browser.visit(address, steps, actions=PAGE_STEPS)
    alone(visit, address)
    for place, backend in enumerate(("webgl", "wasm", "cpu")):
        ok(visit.results[1 + 2 * place], backend)
        assert visit.results[2 + 2 * place]["top"] == "4"


def test_a_backend_is_chosen_in_the_address(exported: Exported, browser: Browser) -> None:
    folder, _ = exported("digits_onnx", "tfjs")
    with served(folder) as address:
        visit = browser.visit(f"{address}?backend=wasm", [WAIT], actions=PAGE_STEPS)
    ok(visit.results[0], "wasm")


@pytest.mark.parametrize(
    ("only", "file", "library"), [("", "model.tflite", "LiteRT.js 2.5.3"), ("onnx", "model.onnx", "ONNX Runtime Web")]
)
def test_web(
    only: str, file: str, library: str, exported: Exported, browser: Browser, digits: list[Path],
    original: Callable[[bytes], str],
) -> None:  # fmt: skip
    folder, report = exported("digits_onnx", "web", only)
    with served(folder) as address:
        visit = browser.visit(address, [WAIT, *map(upload, digits), {"do": "clear"}, DRAW_SEVEN], actions=PAGE_STEPS)
    alone(visit, address)
    ok(visit.results[0], "wasm")
    assert f"{address}{file}" in visit.asked
    assert library in (folder / "index.html").read_text()
    assert report.exported.path == file
    assert [state["top"] for state in visit.results[1:11]] == [original(each.read_bytes()) for each in digits]
    assert visit.results[12]["top"] == original(picture(visit.results[12])) == "7"


def counts(path: Path) -> None:
    """Write an ONNX file with external weights, two inputs, and outputs in FP32 and INT64. LiteRT.js lacks INT64."""
    nodes = [
        helper.make_node("Gather", ["table", "place"], ["row"]),
        helper.make_node("Add", ["row", "shift"], ["sum"]),
        helper.make_node("Add", ["place", "place"], ["twice"]),
    ]
    table = numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "table")
    graph = helper.make_graph(
        nodes,
        "counts",
        [
            helper.make_tensor_value_info("place", TensorProto.INT64, ["rows"]),
            helper.make_tensor_value_info("shift", TensorProto.FLOAT, ["rows", 2]),
        ],
        [
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["rows", 2]),
            helper.make_tensor_value_info("twice", TensorProto.INT64, ["rows"]),
        ],
        [table],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=True, location=WEIGHTS, size_threshold=0)


def test_numbers_in_and_out(tmp_path: Path, browser: Browser, runtime_environment: Callable[[str], Any]) -> None:
    """A model that LiteRT.js refuses runs in ONNX Runtime Web, and the report says why."""
    runtime_environment("onnx")
    counts(tmp_path / "counts.onnx")
    check = tmp_path / "check.npz"
    np.savez(check, place=np.array([2, 0]), shift=np.array([[0.5, 0.25], [1, 2]], np.float32))
    report = make(str(tmp_path / "counts.onnx"), "web", tmp_path / "out", check=check)
    assert report.attempts[-1].route == "ONNX Runtime Web"
    assert any("INT64; LiteRT.js supports" in each.problem for each in report.attempts[:-1]), report.attempts
    parts = [tmp_path / "out" / name for name in ("model.onnx", WEIGHTS)]
    assert report.exported.bytes == sum(part.stat().st_size for part in parts)
    text = json.dumps({"place": [1, 3], "shift": [[0, 0], [10, 20]]})
    steps = [WAIT, {"do": "run"}, {"do": "run", "text": text}, {"do": "run", "text": '{"place": [1]}'}]
    with served(tmp_path / "out") as address:
        visit = browser.visit(address, steps, actions=PAGE_STEPS)
    alone(visit, address)
    first, example, typed, lacking = visit.results
    ok(first, "wasm")
    assert json.loads(first["inputs"]) == {"place": [2], "shift": [[0.5, 0.25]]}
    assert example["outputs"] == "sum [1,2]\n[\n [4.5,5.25]\n]\n\ntwice [1]\n[4]"
    assert typed["outputs"] == "sum [2,2]\n[\n [2,3],\n [16,27]\n]\n\ntwice [2]\n[2,6]"
    assert (lacking["state"], lacking["problem"]) == ("failed", 'input "shift" is missing')


def test_a_wrong_answer_is_told(exported: Exported, browser: Browser) -> None:
    folder, _ = exported("digits_onnx", "web", "onnx")
    with served(folder) as address:
        visit = browser.visit(address, [WAIT], replaced={"example.json": wrong(folder)}, actions=PAGE_STEPS)
    check = visit.results[0]["check"]
    assert check["verdict"] == "differs"
    assert "do not trust it here" in check["text"]


def wrong(folder: Path) -> str:
    example = json.loads((folder / "example.json").read_text())
    example["outputs"]["scores"]["data"][0] += 0.01
    return json.dumps(example)


def test_opened_as_a_file(exported: Exported, browser: Browser) -> None:
    folder, _ = exported("digits_onnx", "tfjs")
    visit = browser.visit((folder / "index.html").as_uri(), [WAIT], actions=PAGE_STEPS)
    assert visit.results[0]["state"] == "failed"
    assert "python3 -m http.server" in visit.results[0]["problem"]
