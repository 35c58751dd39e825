"""The page of one model: its form answers as a direct request does, and its programs run."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from gateway.access.keys import digest_of, new_key
from gateway.environments.environment import Environment
from tests.support import ROOT
from tests.support.browser import Browser, Visit
from tests.support.client_environments import client_python
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_copy, add_fake

FOUR = ROOT / "examples" / "digits" / "four.png"
KEY = "MODELPORT_API_KEY"
TITLES = ("curl", "tritonclient", "Python", "JavaScript")
READY = {"do": "wait", "selector": "#form button.main"}
SEND = {"do": "click", "selector": "#form button.main"}
ANSWERED = {"do": "wait", "selector": "#answer summary"}
ANSWER = {"do": "read", "script": "[...document.querySelectorAll('#answer details pre')].at(-1).textContent"}
# What would be saved is kept, so that a test can read it.
KEEP_FILES = """(() => {
    const create = URL.createObjectURL;
    URL.createObjectURL = (blob) => { window.saved = blob; return create.call(URL, blob); };
})()"""
SAVE = [{"do": "click", "selector": "#file button"}, {"do": "read", "script": "window.saved.text()"}]
# A digit, as a mouse draws it. A synthetic pointer cannot be captured.
STROKES = """(() => {
    const board = document.querySelector('.board'), box = board.getBoundingClientRect();
    board.setPointerCapture = () => {};
    const point = (type, x, y) => board.dispatchEvent(new PointerEvent(type,
        {bubbles: true, pointerId: 1, clientX: box.left + x * box.width, clientY: box.top + y * box.height}));
    for (const [[x, y], ...others] of [[[.55, .1], [.3, .55], [.8, .55]], [[.6, .4], [.58, .9]]]) {
        point('pointerdown', x, y);
        others.forEach((to) => point('pointermove', ...to));
        point('pointerup', 0, 0);
    }
})()"""
DROP = """(() => {
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(BYTES)], 'NAME', {type: 'image/png'}));
    const options = {dataTransfer: data, clipboardData: data, bubbles: true};
    const event = 'EVENT' === 'drop' ? new DragEvent('drop', options) : new ClipboardEvent('paste', options);
    document.querySelector('.drop').dispatchEvent(event);
})()"""
TALKS = """
[[steps]]
model = "talk"
inputs = { x = "x" }
outputs = { "y CORRID" = "id" }
"""
PIPELINE = """
[[steps]]
model = "pixels"
inputs = { image = "picture" }
outputs = { scores = "result" }
"""
# It answers twice the controls that it gets: twice the id, and 2 for a flag that is set.
TALK = "[sequence]\nidle_timeout_s = 60\n" + "".join(
    f'[[sequence.controls]]\nkind = "{kind}"\ninput = "{kind}"\ndatatype = "{datatype}"\n'
    for kind, datatype in {"START": "FP32", "END": "FP32", "CORRID": "UINT64"}.items()
)
# Names and values that are difficult to quote, that JavaScript cannot parse and write again, or that its objects have.
NAMES = [['it\'s "quoted" $HOME \\n', "ü\u2028😀"]]
MIXED = {
    "names": json.dumps(NAMES),
    "large ids": "[[9007199254740993, -9223372036854775807]]",
    "x": "[[NaN, 0.30000000000000004, -Infinity]]",
    "__proto__": "[[7]]",
}


class Site(NamedTuple):
    """operator, reader: API keys. Without one, nothing is allowed."""

    gateway: Gateway
    operator: str
    reader: str

    @property
    def url(self) -> str:
        return f"http://{self.gateway.http}/console/models/"

    def direct(self, path: str, body: bytes, content_type: str = "application/json") -> Any:
        headers = {"Content-Type": content_type, "Authorization": f"Bearer {self.operator}"}
        reply = self.gateway.request("POST", path, body, headers)
        assert reply.status == 200, reply
        return json.loads(reply.body)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, runtime_environment: Callable[[str], Environment]) -> Iterator[Site]:
    runtime_environment("onnx")
    scratch = tmp_path_factory.mktemp("site")
    repository = scratch / "repository"
    digits = ROOT / "model_repo" / "digits_onnx"
    shutil.copytree(digits, repository / "digits_onnx")
    add_copy(repository, "pixels", [digits / "1" / "model.onnx"])
    specs = {"names": ("BYTES", 2), "large ids": ("INT64", 2), "x": ("FP64", 3), "__proto__": ("INT32", 1)}
    tensors = [{"name": name, "datatype": datatype, "shape": [-1, size]} for name, (datatype, size) in specs.items()]
    outputs = [{**each, "name": f"twice {each['name']}"} for each in tensors]
    outputs[-1]["name"] = "constructor"
    add_fake(repository, "mixed", inputs=tensors, outputs=outputs)
    kinds = {"x": "FP32", "START": "FP32", "END": "FP32", "CORRID": "UINT64"}
    given = [{"name": name, "datatype": datatype, "shape": [-1, 1]} for name, datatype in kinds.items()]
    add_fake(
        repository, "talk", toml=TALK, inputs=given, outputs=[{**each, "name": f"y {each['name']}"} for each in given]
    )
    (repository / "pipeline" / "1").mkdir(parents=True)
    (repository / "pipeline" / "model.toml").write_text(PIPELINE)
    (repository / "talks" / "1").mkdir(parents=True)
    (repository / "talks" / "model.toml").write_text(TALKS)
    operator, reader = new_key(), new_key()
    identities = scratch / "identities.toml"
    identities.write_text(
        f'[identities.operator]\nkey_sha256 = ["{digest_of(operator)}"]\nroles = ["infer", "read", "admin"]\n'
        f'[identities.reader]\nkey_sha256 = ["{digest_of(reader)}"]\nroles = ["infer", "read"]\n'
    )
    (repository / "empty").mkdir()
    (repository / "empty" / "model.toml").touch()
    flags = ("--allow-export", "--audit-share", "0.02", "--identities", str(identities))
    started = start_gateway(repository, scratch, *flags)
    yield Site(started.wait_ready(), operator, reader)
    started.close()


def key_steps(key: str) -> list[dict[str, Any]]:
    """Enter the key in the dialog that the page opens because it gets a 401."""
    return [
        {"do": "wait", "selector": "dialog #key"},
        {"do": "fill", "selector": "#key", "text": key},
        {"do": "press", "key": "Enter", "selector": "#key"},
        {"do": "wait", "selector": "#state .READY"},
    ]


def choose(kind: str, name: str) -> dict[str, Any]:
    """Choose the source of an input."""
    script = f"document.querySelector(`[name={json.dumps(f'source-of-{name}')}][value={kind}]`).click()"
    return {"do": "read", "script": script}


def read_programs() -> list[dict[str, Any]]:
    steps = []
    for i in range(len(TITLES)):
        steps += [
            {"do": "click", "selector": f"#tab-{i}"},
            {"do": "read", "script": "document.querySelector('.program pre')?.textContent"},
        ]
    return steps


def check(visit: Visit) -> Visit:
    """The only complaint is that of the browser about the 401 that asks for the key."""
    assert visit.refused == []
    assert [text for text in visit.complaints if "401 (Unauthorized)" not in text] == []
    return visit


def run_programs(programs: list[str | None], folder: Path, key: str, browser: Browser) -> list[Any]:
    """Run each program, in the order of TITLES; its answer as JSON values, in which NaN and infinities are None."""
    triton = client_python("tritonclient", "tritonclient[all]==2.73.0")
    commands = [["bash"], [str(triton), "-I"], [sys.executable, "-I"], [str(browser.node)]]
    answers: list[Any] = []
    for text, command, suffix in zip(programs, commands, ("sh", "py", "py", "mjs"), strict=True):
        if text is None:
            answers.append(None)
            continue
        assert key not in text
        file = folder / f"program.{suffix}"
        file.write_text(text)
        run = subprocess.run(
            [*command, str(file)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=folder,
            env={**os.environ, KEY: key},
        )
        assert run.returncode == 0, text + run.stdout + run.stderr
        answers.append(run.stdout)
    curl, tritonclient, python, javascript = answers
    tensors = None
    if tritonclient is not None:
        lines = [re.fullmatch(r"(.*?) (\[.*)", line) for line in tritonclient.splitlines()]
        tensors = {line[1]: ast.literal_eval(_finite(line[2])) for line in lines if line}
    return [
        curl and _json(curl),
        tensors,
        python and ast.literal_eval(_finite(python)),
        javascript and _json(javascript),
    ]


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=lambda _: None)


def _finite(text: str) -> str:
    return re.sub(r"\b(nan|-?inf)\b", "None", text).replace("-None", "None")


def results(visit: Visit) -> list[Any]:
    return [result for result in visit.results if result is not None]


def test_an_image_gets_the_labels_that_a_direct_request_gets(site: Site, browser: Browser, tmp_path: Path) -> None:
    steps = [READY, choose("image", "image")]
    for event, name in (("paste", "pasted.png"), ("drop", "four.png")):
        script = DROP.replace("EVENT", event).replace("NAME", name).replace("BYTES", str(list(FOUR.read_bytes())))
        steps += [{"do": "read", "script": script}, {"do": "wait", "selector": f".preview[alt$='{name}']"}]
    shown = {"do": "read", "script": "document.querySelector('#answer .bars .label').textContent"}
    copied = [{"do": "click", "selector": ".copy"}, {"do": "wait", "selector": "text=Copied"}]
    look = {"do": "look", "width": 375, "height": 800, "dark": True}
    visit = check(
        browser.visit(
            site.url + "digits_onnx",
            [
                *key_steps(site.operator),
                *steps,
                SEND,
                ANSWERED,
                ANSWER,
                shown,
                *read_programs(),
                *copied,
                {"do": "axe"},
                look,
                {"do": "axe"},
            ],
        )
    )
    answer, best, curl, python, javascript, light, phone = results(visit)
    direct = site.direct("/predict/digits_onnx", FOUR.read_bytes(), "image/png")
    assert (_json(answer), best) == (direct, "4")
    assert light == phone == []
    shutil.copy(FOUR, tmp_path)
    ran = run_programs([curl, None, python, javascript], tmp_path, site.operator, browser)
    assert ran == [direct, None, direct, direct]


def test_json_and_npy_get_the_tensors_that_a_direct_request_gets(site: Site, browser: Browser, tmp_path: Path) -> None:
    values = np.arange(128, dtype=np.float32).reshape(2, 64) / 8
    np.save(tmp_path / "two.npy", values)
    direct = site.direct("/predict/pixels", json.dumps({"inputs": values.tolist()}).encode())
    written = [choose("json", "image"), {"do": "fill", "selector": "textarea", "text": json.dumps(values.tolist())}]
    taken = {"do": "wait", "script": "document.querySelector('.panel-of-input').textContent.includes('FP32, [2, 64]')"}
    loaded = [
        choose("npy", "image"),
        {"do": "upload", "selector": "#npy-of-image", "file": str(tmp_path / "two.npy")},
        taken,
        {"do": "wait", "script": "document.querySelector('.program pre')?.textContent.includes('two.npy')"},
    ]
    again = {"do": "read", "script": "document.querySelector('#answer').replaceChildren()"}
    steps = [
        READY,
        *written,
        SEND,
        ANSWERED,
        ANSWER,
        *read_programs(),
        *loaded,
        again,
        SEND,
        ANSWERED,
        ANSWER,
        *read_programs(),
    ]
    found = results(check(browser.visit(site.url + "pixels", [*key_steps(site.reader), *steps])))
    for answer, *programs in (found[:5], found[5:]):
        assert _json(answer) == direct
        curl, tensors, python, javascript = run_programs(programs, tmp_path, site.reader, browser)
        assert curl == python == javascript == direct
        assert np.allclose(tensors["scores"], direct["outputs"]["scores"])


def test_values_that_javascript_cannot_hold_arrive_as_they_were_written(
    site: Site, browser: Browser, tmp_path: Path
) -> None:
    fills = [{"do": "fill", "selector": f'[id="json-of-{name}"]', "text": text} for name, text in MIXED.items()]
    steps = [READY, *fills, SEND, ANSWERED, ANSWER, *read_programs()]
    answer, *programs = results(check(browser.visit(site.url + "mixed", [*key_steps(site.operator), *steps])))
    body = f'{{"inputs": {{{", ".join(f"{json.dumps(name)}: {text}" for name, text in MIXED.items())}}}}}'
    direct = site.direct("/predict/mixed", body.encode())
    assert direct["outputs"]["twice large ids"] == [[18014398509481986, 2]]  # the second wraps, as INT64 does
    assert _json(answer)["outputs"] == _json(json.dumps(direct["outputs"]))
    curl, tensors, python, javascript = run_programs(programs, tmp_path, site.operator, browser)
    assert curl == python == javascript == _json(json.dumps(direct))
    assert tensors["twice large ids"] == direct["outputs"]["twice large ids"]
    assert [text.decode() for text in tensors["twice names"][0]] == direct["outputs"]["twice names"][0]


def test_a_long_request_is_a_file_beside_the_programs(site: Site, browser: Browser, tmp_path: Path) -> None:
    values = json.dumps([[0.125] * 64] * 30)
    written = [choose("json", "image"), {"do": "fill", "selector": "textarea", "text": values}]
    wait = {"do": "wait", "selector": "#file button"}
    steps = [READY, {"do": "read", "script": KEEP_FILES}, *written, wait, *SAVE, *read_programs()]
    body, *programs = results(check(browser.visit(site.url + "pixels", [*key_steps(site.operator), *steps])))
    (tmp_path / "request.json").write_text(body)
    direct = site.direct("/predict/pixels", body.encode())
    assert len(direct["outputs"]["scores"]) == 30
    curl, tensors, python, javascript = run_programs(programs, tmp_path, site.operator, browser)
    assert curl == python == javascript == direct
    assert np.allclose(tensors["scores"], direct["outputs"]["scores"])


@pytest.mark.parametrize("model", ["digits_onnx", "pixels"])
def test_a_drawing_is_sent_after_each_stroke(site: Site, browser: Browser, tmp_path: Path, model: str) -> None:
    """As an image if the model takes images, else as values."""
    best = {"do": "read", "script": "document.querySelector('#answer .bars .label').textContent"}
    curl = {"do": "read", "script": "document.querySelector('.program pre').textContent"}
    save = {"do": "read", "script": "document.querySelector('#file button')?.click()"}
    saved = {"do": "read", "script": "window.saved?.arrayBuffer().then((buffer) => [...new Uint8Array(buffer)]) ?? []"}
    drawn = [{"do": "read", "script": STROKES}, ANSWERED, {"do": "idle"}, best, ANSWER, curl, save, saved]
    keys = ("ArrowUp", "ArrowUp", *["Shift+ArrowDown"] * 5)
    by_keyboard = [
        {"do": "read", "script": "document.querySelector('#answer').replaceChildren()"},
        {"do": "click", "selector": ".beside button:nth-of-type(2)"},
        *[{"do": "press", "key": key, "selector": ".board"} for key in keys],
        ANSWERED,
        {"do": "read", "script": "document.querySelector('.drawing [role=status]').textContent"},
    ]
    steps = [READY, {"do": "read", "script": KEEP_FILES}, choose("draw", "image"), *drawn, *by_keyboard]
    found = results(check(browser.visit(site.url + model, [*key_steps(site.operator), *steps])))
    best_label, answer, program, image, spoken = found
    assert best_label == ("4" if image else "class 4")
    assert spoken == "row 8, column 5, drawn"
    assert bool(image) == (model == "digits_onnx")
    (tmp_path / "drawing.png").write_bytes(bytes(image))
    assert run_programs([program, None, None, None], tmp_path, site.operator, browser)[0] == _json(answer)


def test_only_those_who_may_change_the_model_get_buttons(site: Site, browser: Browser) -> None:
    buttons = {
        "do": "read",
        "script": "[...document.querySelectorAll('#controls button')].map((each) => each.textContent)",
    }
    exports = {"do": "read", "script": "document.querySelector('#export').hidden"}
    visit = check(browser.visit(site.url + "mixed", [*key_steps(site.reader), READY, buttons, exports]))
    assert results(visit) == [[], True]
    unload = [
        {"do": "click", "selector": "#controls .danger"},
        {"do": "axe"},
        {"do": "click", "selector": "dialog .danger"},
        {"do": "wait", "selector": "#state .UNAVAILABLE"},
        # Whoever uses a keyboard goes on from here.
        {"do": "wait", "script": "document.querySelector('#controls').contains(document.activeElement)"},
    ]
    load = [
        {"do": "click", "selector": "#controls button"},
        {"do": "wait", "selector": "#state .READY"},
        {"do": "read", "script": "document.querySelector('#outcome').textContent"},
    ]
    written = {"do": "fill", "selector": "textarea", "text": '[["a", "b"]]'}
    kept = {"do": "read", "script": "document.querySelector('textarea').value"}
    steps = [READY, buttons, exports, written, *unload, buttons, *load, READY, kept, SEND, ANSWERED]
    visit = check(browser.visit(site.url + "mixed", [*key_steps(site.operator), *steps]))
    before = [["Reload", "Unload"], False]
    assert results(visit) == [*before, [], ["Load"], "mixed is loaded", written["text"]]
    assert sum("/predict/" in url for url in visit.asked) == 1


def test_a_model_without_versions_has_a_page(site: Site, browser: Browser) -> None:
    reason = {"do": "read", "script": "document.querySelector('#state').textContent"}
    steps = [*key_steps(site.operator)[:-1], {"do": "wait", "selector": "#state .UNAVAILABLE"}, {"do": "idle"}, reason]
    (text,) = results(check(browser.visit(site.url + "empty", steps)))
    assert "it has no version folder" in text


def test_the_configuration_of_a_model_that_runs(site: Site) -> None:
    headers = {"Authorization": f"Bearer {site.reader}"}
    reply = site.gateway.request("GET", "/console/models/digits_onnx/configuration", None, headers)
    found = {value["key"]: (value["value"], value["source"]) for value in reply.json()["values"]}
    assert found["preprocess.size"] == ([8, 8], "model.toml")
    assert found["inputs.image.shape"] == ([-1, 64], "artifact")
    assert found["max_batch_size"] == (32, "run time")
    assert found["audit_share"] == (0.02, "setting")
    assert found["device"] == (["cpu"], "default")
    assert found["threads"][0] >= 1
    assert found["warmup"] == (1, "default")
    assert "/" not in json.dumps(reply.json()["values"])  # no path


def test_an_error_is_shown_in_the_words_of_the_server(site: Site, browser: Browser) -> None:
    written = [choose("json", "image"), {"do": "fill", "selector": "textarea", "text": "[[1, 2]]"}]
    error = {"do": "read", "script": "document.querySelector('#answer .error').textContent"}
    shown = {"do": "wait", "selector": "#answer .error"}
    visit = browser.visit(site.url + "pixels", [*key_steps(site.operator), READY, *written, SEND, shown, error])
    headers = {"Authorization": f"Bearer {site.operator}"}
    reply = site.gateway.post("/predict/pixels", {"inputs": {"image": [[1, 2]]}}, headers)
    assert results(visit)[-1] == f"{reply.status} {reply.json()['error']}"


def test_an_export_is_followed_until_it_can_be_downloaded(site: Site, browser: Browser) -> None:
    """The server's part is tested elsewhere; here its answers are fixed."""
    running = {"id": "7", "state": "RUNNING", "progress": ["loading digits_onnx in its own framework"]}
    side = {"path": "model.tflite", "bytes": 26708, "seconds": 6e-6}
    runs = [{"runner": "LiteRT", "differences": [{"name": "scores", "relative": 2e-6, "top1": 1.0}]}]
    report = {"original": side, "exported": side, "runs": runs, "notes": [], "cases": 19, "origin": "generated"}
    done = {**running, "state": "DONE", "report": report}
    archive = "an archive"
    replaced = {"export": json.dumps(running), "export/7": json.dumps(done), "export/7/result": archive}
    steps = [
        READY,
        {"do": "read", "script": KEEP_FILES},
        {"do": "click", "selector": "#export button.main"},
        {"do": "wait", "selector": "#export .progress button.main"},
        {"do": "axe"},
        {"do": "click", "selector": "#export .progress button.main"},
        {"do": "read", "script": "[...document.querySelectorAll('#export td')].map((cell) => cell.textContent)"},
        {"do": "wait", "script": "window.saved"},
        {"do": "read", "script": "window.saved.text()"},
    ]
    visit = browser.visit(site.url + "digits_onnx", [*key_steps(site.operator), *steps], replaced=replaced)
    assert results(check(visit)) == [[], ["LiteRT", "scores", "2.0e-6", "100 %"], archive]


def test_a_refused_export_says_why(site: Site, browser: Browser) -> None:
    refused = {"do": "read", "script": "document.querySelector('#export .error').textContent"}
    precision = {
        "do": "read",
        "script": "document.querySelector('#export-precision').append(new Option('int8', 'int8', true, true))",
    }
    steps = [
        READY,
        precision,
        {"do": "click", "selector": "#export button.main"},
        {"do": "wait", "selector": "#export .error"},
        refused,
    ]
    visit = browser.visit(site.url + "digits_onnx", [*key_steps(site.operator), *steps])
    assert results(visit)[-1].startswith("int8 needs calibration data")


def test_a_signature_and_outputs_that_are_chosen_are_part_of_the_request(site: Site, browser: Browser) -> None:
    """No model here has two signatures; the description of one is replaced by that of one that has."""
    spec = {"name": "x", "datatype": "INT32", "shape": [-1, 2]}
    first = {"name": "first", "inputs": [spec], "outputs": [spec], "refused": {}}
    outputs = [{**spec, "name": name} for name in ("a", "b", "c")]
    second = {"name": "second", "inputs": [spec], "outputs": outputs, "refused": {"c": "it is a sequence"}}
    described = {
        "name": "mixed",
        "version": "1",
        "version_labels": [],
        "signatures": [first, second],
        "class_labels": {},
        "batch_dim": 0,
        "preprocess": None,
        "postprocess": None,
        "values": [],
    }
    curl = {"do": "read", "script": "document.querySelector('.program pre').textContent"}
    steps = [
        *(READY, curl),
        *({"do": "select", "selector": "#form select", "value": "second"}, {"do": "idle"}, curl),
        *({"do": "click", "selector": "#form [value=a]"}, {"do": "idle"}, curl),
    ]
    replaced = {"configuration": json.dumps(described)}
    visit = browser.visit(site.url + "mixed", [*key_steps(site.reader), *steps], replaced=replaced)
    bodies = [json.loads(text.split("'")[-2]) for text in results(check(visit)) if isinstance(text, str)]
    inputs = {"x": [[0, 1]]}
    assert bodies == [
        {"inputs": inputs},
        {"inputs": inputs, "signature": "second"},
        {"inputs": inputs, "signature": "second", "outputs": ["b"]},
    ]


def test_inputs_that_a_request_may_leave_out_are_left_out_until_they_are_given(site: Site, browser: Browser) -> None:
    """No model here has any; the description of one is replaced."""
    names = {"x": (False, True), "mask": (True, True), "w": (True, False)}
    inputs = [
        {"name": name, "datatype": "INT32", "shape": [-1], "optional": optional, "has_rows": has_rows}
        for name, (optional, has_rows) in names.items()
    ]
    signature = {"name": "default", "inputs": inputs, "outputs": [{"name": "y", "datatype": "INT32", "shape": [-1]}]}
    described = {
        "name": "mixed",
        "version": "1",
        "version_labels": [],
        "signatures": [{**signature, "refused": {"parts": "it is sparse"}, "json": ["maps"]}],
        "class_labels": {},
        "batch_dim": 0,
        "preprocess": None,
        "postprocess": None,
        "values": [],
    }
    curl = {"do": "read", "script": "document.querySelector('.program pre').textContent"}
    rows = "[...document.querySelectorAll('.signature tbody tr')].map((row) => row.innerText).join('\\n')"
    steps = [READY, {"do": "read", "script": rows}, curl]
    for name in ("mask", "w"):
        steps += [choose("json", name), {"do": "idle"}, curl]
    replaced = {"configuration": json.dumps(described)}
    steps += [choose("none", "mask"), {"do": "idle"}, curl, {"do": "axe"}]
    visit = browser.visit(site.url + "mixed", [*key_steps(site.reader), *steps], replaced=replaced)
    table, *texts, complaints = results(check(visit))
    assert complaints == []
    assert [line.split("\t")[:4] for line in table.splitlines()] == [
        ["input", "x", "INT32", "[rows]"],
        ["optional input", "mask", "INT32", "[rows]"],
        ["optional input", "w", "INT32", "[any]"],
        ["output", "y", "INT32", "[rows]"],
        ["output", "maps", "JSON", ""],
        ["output", "partscannot be served: it is sparse", "unknown", "unknown"],
    ]
    bodies = [json.loads(text.split("'")[-2]) for text in texts]
    assert [list(body["inputs"]) for body in bodies] == [["x"], ["x", "mask"], ["x", "mask", "w"], ["x", "w"]]


def test_a_pipeline_shows_its_steps_and_answers(site: Site, browser: Browser) -> None:
    shown = {"do": "read", "script": "document.querySelector('#steps').innerText"}
    link = {"do": "read", "script": "document.querySelector('#steps a').getAttribute('href')"}
    values = {"do": "fill", "selector": "textarea", "text": json.dumps([[0.125] * 64])}
    steps = [READY, shown, link, choose("json", "picture"), values, SEND, ANSWERED, ANSWER]
    text, href, answer = results(check(browser.visit(site.url + "pipeline", [*key_steps(site.operator), *steps])))
    assert text.split() == ["Steps", "pixels", "version", "1", "READY"]
    assert href == "/console/models/pixels/versions/1"
    direct = site.direct("/predict/pixels", json.dumps({"inputs": [[0.125] * 64]}).encode())
    assert _json(answer)["outputs"] == {"result": direct["outputs"]["scores"]}


@pytest.mark.parametrize("model", ["talk", "talks"])
def test_a_sequence_has_an_id_a_start_and_an_end(site: Site, browser: Browser, tmp_path: Path, model: str) -> None:
    """The programs send them too. The id is the largest, which JavaScript's numbers do not hold."""
    number = {"do": "fill", "selector": "#sequence-id", "text": str((1 << 64) - 1)}
    start, end = ({"do": "click", "selector": f"#sequence-{which}"} for which in ("start", "end"))
    hint = {"do": "read", "script": "document.querySelector('#programs').textContent"}
    hints = [step for text in ("0", "") for step in ({**number, "text": text}, {"do": "idle"}, hint)]
    gone = {"do": "read", "script": "document.querySelector('#answer').replaceChildren()"}
    began = [number, start, SEND, ANSWERED, ANSWER, *read_programs(), {"do": "axe"}]
    ended = [start, end, gone, SEND, ANSWERED, ANSWER]
    found = results(check(browser.visit(site.url + model, [*key_steps(site.operator), READY, *hints, *began, *ended])))
    zero, none, first, *programs, violations, last = found
    assert zero == "To see the request, enter a sequence id from 1 to 2^64 - 1, or text."
    assert none == "To see the request, enter a sequence id."
    assert violations == []
    outputs = [_json(answer)["outputs"] for answer in (first, last)]
    name = "y CORRID" if model == "talk" else "id"
    assert [each[name] for each in outputs] == [[[(1 << 64) - 2]]] * 2
    if model == "talks":  # a pipeline, whose step gets what its request has
        return
    assert [(each["y START"], each["y END"]) for each in outputs] == [([[2.0]], [[0.0]]), ([[0.0]], [[2.0]])]
    curl, tensors, python, javascript = run_programs(programs, tmp_path, site.operator, browser)
    assert curl["outputs"] == tensors == python["outputs"] == javascript["outputs"] == outputs[0]
