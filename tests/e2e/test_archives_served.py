"""Archives of TorchServe, Multi Model Server and SageMaker, made by their own tools, through a real gateway.

Expected values come from the class of TorchServe's handler, and from MXNet.
"""

import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.support.client_environments import client_python
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.image_files import form, save
from tests.support.protocols import EVERY_PROTOCOL, Ask

HERE = Path(__file__).parent
TORCHSERVE = ("torch-model-archiver==0.12.0", "pillow==13.0.0", "pyyaml==6.0.3", "packaging", "psutil")
HANDLER = "from pathlib import Path\nPath(%r).write_text('it ran')\ndef handle(data, context):\n    return data\n"
NAMES = ("cat", "dog", "cow", "hen", "fox", "owl", "ant", "bee", "cod", "eel")
LABELS = {str(index): name for index, name in enumerate(NAMES)}


class Served(NamedTuple):
    """folder: what the archives were made from. images: files, as TorchServe's handler gets them."""

    gateway: Gateway
    store: Path
    folder: Path
    images: list[Path]
    answers: list[dict[str, float]]
    ran: Path


@pytest.fixture(scope="module")
def served(runtime_environment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    torch, mxnet = (runtime_environment(name).python for name in ("torchscript", "mxnet"))
    tools = client_python("torchserve", *TORCHSERVE, alone=("torchvision==0.28.0", "torchserve==0.12.0"))
    folder, store = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("store")
    (packages,) = tools.parent.parent.glob("lib/python3*/site-packages")
    torchserve = [torch, "-I", HERE / "torchserve_script.py", packages]
    run(*torchserve, "make", folder)
    images = write_images(folder)
    ran = folder / "ran"
    write_archives(folder, store, tools.with_name("torch-model-archiver"), ran)
    write_mxnet(folder, store, mxnet, client_python("model-archiver", "model-archiver==1.0.3"), ran)
    with zipfile.ZipFile(store / "animals.mar") as archive:
        archive.extractall(folder / "unpacked")
    answers = json.loads(run(*torchserve, "answer", "image_classifier", folder / "unpacked", *images).splitlines()[-1])
    gateway = start_gateway(store, tmp_path_factory.mktemp("gateway")).wait_ready()
    yield Served(gateway, store, folder, images, answers, ran)
    gateway.close()


def run(*command: Any, cwd: Path | None = None) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=240, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_images(folder: Path) -> list[Path]:
    """Write images in landscape and portrait format, and one that is smaller than what the handler cuts out."""
    random, files = np.random.default_rng(3), []
    for number, (height, width) in enumerate(((300, 431), (517, 260), (90, 120))):
        coarse = random.integers(0, 256, (height // 10 + 1, width // 10 + 1, 3), dtype=np.uint8)
        files.append(folder / f"{number}.png")
        files[-1].write_bytes(save(coarse.repeat(10, axis=0).repeat(10, axis=1)[:height, :width]))
    return files


def write_archives(folder: Path, store: Path, archiver: Path, ran: Path) -> None:
    (folder / "index_to_name.json").write_text(json.dumps(LABELS))
    (folder / "own.py").write_text(HANDLER % str(ran))
    (folder / "net.py").write_text(HANDLER % str(ran))

    def archive(name: str, handler: str, *flags: str, file: str = "net.pt", path: Path = store) -> None:
        named = [archiver, "--model-name", name, "--version", "1.0", "--export-path", path, "--force"]
        run(*named, "--serialized-file", file, "--handler", handler, *flags, cwd=folder)

    archive("animals", "image_classifier", "--extra-files", "index_to_name.json")
    archive("tensors", "base_handler")
    archive("segments", "image_segmenter")
    archive("text", "text_classifier")
    archive("own", "own.py")
    archive("eager", "image_classifier", "--model-file", "net.py", file="weights.pth")
    archive("animals", "image_classifier", "--extra-files", "index_to_name.json", file="other.pt", path=folder)
    version = store / "without_handler" / "1"
    version.mkdir(parents=True)
    shutil.copy(store / "own.mar", version)
    (version.parent / "model.toml").write_text('runtime = "torchscript"\n')
    (store / "folder").mkdir()
    archive("1", "image_classifier", "--archive-format", "no-archive", path=store / "folder")


def write_mxnet(folder: Path, store: Path, python: Path, archiver: Path, ran: Path) -> None:
    source = folder / "mxnet"
    source.mkdir()
    run(python, "-I", HERE / "mms_script.py", source)
    (source / "service.py").write_text(HANDLER % str(ran))
    archive = [archiver.with_name("model-archiver"), "--model-path", source, "--handler", "service:handle"]
    run(*archive, "--model-name", "mms", "--export-path", store)
    content = {"model-symbol.json": "animals-symbol.json", "model-0000.params": "animals-0000.params"}
    (folder / "model-shapes.json").write_text('[{"name": "data", "shape": [100, 3]}]')
    (store / "sagemaker_mxnet" / "1").mkdir(parents=True)
    with tarfile.open(store / "sagemaker_mxnet" / "1" / "model.tar.gz", "w:gz") as tar:
        for name, file in content.items():
            tar.add(source / file, name)
        tar.add(folder / "model-shapes.json", "model-shapes.json")
        tar.add(folder / "own.py", "code/inference.py")
    (store / "sagemaker_numpy" / "1").mkdir(parents=True)
    with tarfile.open(store / "sagemaker_numpy" / "1" / "model.tar.gz", "w:gz") as tar:
        for name in ("scaled-symbol.json", "scaled-0000.params"):
            tar.add(folder / name, name)
    (store / "linked" / "1").mkdir(parents=True)
    with tarfile.open(store / "linked" / "1" / "model.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo("model.pt")
        link.type, link.linkname = tarfile.SYMTYPE, str(folder / "net.pt")
        tar.addfile(link)
    (store / "sagemaker_torch" / "1").mkdir(parents=True)
    with tarfile.open(store / "sagemaker_torch" / "1" / "model.tar.gz", "w:gz") as tar:
        tar.add(folder / "net.pt", "model.pth")
        tar.add(folder / "own.py", "code/inference.py")


def test_an_image_is_classified_as_torchserves_handler_does(served: Served) -> None:
    for path in ("/predictions/animals", "/predictions/animals/1.0", "/predictions/animals/1", "/predictions/folder"):
        for image, expected in zip(served.images, served.answers, strict=True):
            reply = served.gateway.post(path, image.read_bytes(), {"Content-Type": "image/png"})
            assert reply.status == 200, reply.body
            if "folder" in path:  # which has no labels
                expected = {index: expected[name] for index, name in LABELS.items() if name in expected}
                expected = dict(sorted(expected.items(), key=lambda each: -each[1]))
            assert list(reply.json()) == list(expected)
            assert list(reply.json().values()) == pytest.approx(list(expected.values()), abs=1e-4)


def test_several_images_and_the_other_protocols_see_the_same_model(served: Served) -> None:
    files = [image.read_bytes() for image in served.images]
    reply = served.gateway.post("/predictions/animals", *form(*files))
    assert [list(each) for each in reply.json()] == [list(each) for each in served.answers]
    predictions = served.gateway.post("/predict/animals", *form(*files)).json()["predictions"]
    assert [[each["label"] for each in best] for best in predictions] == [list(each) for each in served.answers]
    values = np.random.default_rng(0).integers(0, 3, (2, 3, 224, 224)).astype(np.float32)
    answers = [ask(served.gateway, "animals", {"INPUT__0": values}) for ask in EVERY_PROTOCOL.values()]
    answers += [ask(served.gateway, "sagemaker_torch", {"x": values}) for ask in EVERY_PROTOCOL.values()]
    answers += [ask(served.gateway, "without_handler", {"x": values}) for ask in EVERY_PROTOCOL.values()]
    served.gateway.wait_for("animals version 1 is READY, batching up to")
    assert answers[0]["OUTPUT__0"].shape == (2, 10)
    for answer in answers:
        np.testing.assert_allclose(answer["OUTPUT__0"], answers[0]["OUTPUT__0"], rtol=1e-5)


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL)
@pytest.mark.parametrize(("model", "output"), [("mms", "softmax"), ("sagemaker_mxnet", "softmax_output")])
def test_mxnet_in_an_archive_answers_as_mxnet_does(served: Served, model: str, output: str, protocol: str) -> None:
    ask: Ask = EVERY_PROTOCOL[protocol]
    with np.load(served.folder / "expected.npz") as expected:
        answer = ask(served.gateway, model, {"data": expected["data"]})
        np.testing.assert_allclose(answer[output], expected["softmax"], rtol=1e-5)


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL)
def test_a_graph_with_numpys_semantics_has_scalars(served: Served, protocol: str) -> None:
    with np.load(served.folder / "scaled.npz") as file:
        expected = dict(file)
    inputs = {name: expected.pop(name) for name in ("data0", "data1")}
    answer = EVERY_PROTOCOL[protocol](served.gateway, "sagemaker_numpy", inputs)
    assert {name: array.shape for name, array in answer.items()} == {name: a.shape for name, a in expected.items()}
    for name, array in expected.items():
        np.testing.assert_allclose(answer[name], array, rtol=1e-5)


def test_the_labels_of_an_archive_are_those_of_its_classes(served: Served) -> None:
    body = {
        "inputs": [{"name": "data", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}],
        "outputs": [{"name": "softmax", "parameters": {"classification": 4}}],
    }
    (output,) = served.gateway.post("/v2/models/mms/infer", body).json()["outputs"]
    labels = sorted(each.split(":", 1)[1] for each in output["data"])
    assert labels == ["0:n1 cat", "1:n2 dog", "2:n3 cow", "3:n4 hen"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("text", "its handler text_classifier is a program, which this gateway does not run; start it with --allow-"),
        ("own", "its handler own.py is a program, which this gateway does not run; start it with --allow-python if"),
        ("linked", "'model.tar.gz' cannot be opened: the archive contains 'model.pt', which is a link or a device"),
        ("eager", "its handler image_classifier is a program, which this gateway does not run; start it with"),
    ],
)
def test_what_is_not_served_says_why_and_no_program_runs(served: Served, model: str, reason: str) -> None:
    found = [each for (name, _), each in served.gateway.index().items() if name == model]
    assert [each["state"] for each in found] == ["UNAVAILABLE"]
    assert found[0]["reason"].startswith(reason)
    assert not served.ran.exists()


def test_a_warning_says_what_is_left_out(served: Served) -> None:
    served.gateway.wait_for("mms: its handler service:handle is a program, which is not run")
    served.gateway.wait_for(r"sagemaker_torch: its handler code/inference\.py is a program, which is not run")
    served.gateway.wait_for("segments: answers have the model's own outputs, where its handler image_segmenter has")


def test_a_new_archive_replaces_the_old_one(served: Served) -> None:
    since = len(served.gateway.log)
    os.replace(served.folder / "animals.mar", served.store / "animals.mar")
    served.gateway.wait_for(r"animals version 1 is READY", since)
    image = served.images[0].read_bytes()
    while (reply := served.gateway.post("/predictions/animals", image, {"Content-Type": "image/png"})).json() == (
        pytest.approx(served.answers[0], abs=1e-4)
    ):
        pass  # each turn is a request: the table is on its way to the front
    assert reply.status == 200
    assert set(reply.json()) <= set(LABELS.values())
