"""Archives in a repository: what they say about their model, and what is refused. The runtimes are the real ones."""

import errno
import io
import json
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.contents.archive import unpack
from gateway.contents.errors import StoreError
from gateway.environments.runtime import discover
from gateway.lifecycle.sandbox import NotAllowed, SandboxPolicy, check_program
from gateway.repository.archives import unpacked
from gateway.repository.errors import RepositoryError
from gateway.repository.image_config import incompatibility
from gateway.repository.model_config import ModelConfig
from gateway.repository.scan import scan
from gateway.repository.scan_cache import ScanCache
from runtimes.contract import Signature, TensorSpec
from tests.support import ROOT

RUNTIMES = discover()
SYMBOL = '{"nodes": [{"op": "null"'
SIGNATURE = {
    "inputs": [{"data_name": "data", "data_shape": [0, 3, 0, 224]}],
    "outputs": [{"data_name": "softmax", "data_shape": [1, 4]}],
}


@pytest.fixture(autouse=True)
def modelport_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELPORT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def torchscript() -> bytes:
    """A file that looks like TorchScript."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/code/__torch__.py", "")
    return buffer.getvalue()


def mar(path: Path, files: dict[str, Any], **model: str) -> Path:
    """Write an archive as torch-model-archiver does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    manifest = {"runtime": "python", "model": {"modelName": "m", **model}, "archiverVersion": "0.12.0"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, "MAR-INF/MANIFEST.json": manifest}.items():
            archive.writestr(name, content if isinstance(content, bytes) else json.dumps(content))
    return path


def tar(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            content = torchscript() if name.endswith((".pt", ".pth")) else SYMBOL.encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def only(path: Path) -> ModelConfig:
    (config,) = scan(path, RUNTIMES)
    return config


def test_the_handler_of_torchserve_becomes_settings_of_the_model(tmp_path: Path) -> None:
    names = {"0": "cat", "2": ["n02", "dog"]}
    files = {"net.pt": torchscript(), "index_to_name.json": names}
    path = mar(tmp_path / "pets.mar", files, handler="image_classifier", serializedFile="net.pt", modelVersion="2.1")
    config = only(path)
    assert (config.name, config.version, dict(config.toml.version_labels)) == ("pets", "2", {"2.1": 2})
    assert config.artifact is not None
    assert (config.artifact.path.name, config.artifact.runtime.name) == ("net.pt", "torchscript")
    assert config.artifact.path.parent in config.readable
    assert config.toml.preprocess is not None
    assert config.toml.postprocess is not None
    assert (config.toml.preprocess.size, config.toml.preprocess.shorter_side) == ((224, 224), 256)
    assert (config.toml.postprocess.softmax, config.toml.postprocess.top_k) == (True, 5)
    assert [(each.datatype, each.shape) for each in config.toml.inputs] == [("FP32", (-1, 3, 224, 224))]
    # The handler needs a row of scores for each image. Without shapes, the model would not be batched.
    assert [(each.name, each.datatype, each.shape) for each in config.toml.outputs] == [("OUTPUT__0", "", (-1, -1))]
    assert config.class_labels == {"OUTPUT__0": ("cat", "", "dog")}
    assert config.sources == dict.fromkeys(("inputs", "outputs", "postprocess", "preprocess"), "artifact")


def test_labels_are_those_of_the_first_output(tmp_path: Path) -> None:
    """Whose name is in the serialized file, if it is not TorchScript."""
    files = {"net.onnx": b"", "index_to_name.json": {"0": "cat"}}
    mar(tmp_path / "m.mar", files, handler="image_classifier", serializedFile="net.onnx")
    config = only(tmp_path / "m.mar")
    signature = Signature((), (TensorSpec("logits", "FP32", (-1, 2)), TensorSpec("other", "FP32", (-1, 2))))
    assert config.labels_of(signature) == {"logits": ("cat",)}
    assert config.toml.outputs == ()


def test_an_archive_may_have_fewer_labels_than_classes(tmp_path: Path) -> None:
    files = {"net.pt": torchscript(), "index_to_name.json": {"0": "cat", "2": "dog"}}
    mar(tmp_path / "m" / "1" / "a.mar", files, handler="image_classifier", serializedFile="net.pt")

    def problem() -> str:
        config = only(tmp_path)
        scores = Signature((), (TensorSpec("OUTPUT__0", "FP32", (-1, 10)),))
        return incompatibility(None, config.toml.postprocess, scores, config.declared_labels, 0)

    assert problem() == ""
    (tmp_path / "m" / "labels.txt").write_text("cat\ndog\n")
    (tmp_path / "m" / "model.toml").write_text('labels = {OUTPUT__0 = "labels.txt"}\n')
    assert problem() == "output 'OUTPUT__0' has 10 scores, but its labels file has 2 lines"


def test_model_toml_has_precedence_over_the_archive(tmp_path: Path) -> None:
    files = {"net.pt": torchscript(), "index_to_name.json": {"object_type_names": ["cat", "dog"]}}
    mar(tmp_path / "m" / "3" / "a.mar", files, handler="image_classifier", serializedFile="net.pt")
    toml = tmp_path / "m" / "model.toml"
    toml.write_text('postprocess = {top_k = 1}\noutputs = [{name = "scores"}]\npreprocess = {size = [8, 8]}\n')
    config = only(tmp_path)
    assert (config.name, config.version, config.problem) == ("m", "3", "")
    assert config.toml.preprocess is not None
    assert config.toml.postprocess is not None
    assert (config.toml.preprocess.size, config.toml.postprocess.top_k) == ((8, 8), 1)
    assert config.class_labels == {"scores": ("cat", "dog")}


def test_a_model_store_has_a_model_for_each_archive(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        mar(tmp_path / f"{name}.mar", {"net.pt": torchscript()}, handler="base_handler", serializedFile="net.pt")
    (tmp_path / "broken.mar").write_bytes(b"no zip")
    found = {config.name: config for config in scan(tmp_path, RUNTIMES)}
    assert list(found) == ["broken", "cats", "dogs"]
    assert found["broken"].problem.startswith("'broken.mar' cannot be opened: the archive cannot be unpacked")
    assert found["cats"].artifact is not None
    assert found["cats"].toml.preprocess is None


@pytest.mark.parametrize(("stated", "labels"), [("3.0", {"3.0": 3}), ("1.0", {}), ("3", {}), ("beta", {})])
def test_the_version_of_a_manifest_is_a_label_of_that_version(
    tmp_path: Path, stated: str, labels: dict[str, int]
) -> None:
    files = {"net.pt": torchscript()}
    mar(tmp_path / "m" / "3" / "a.mar", files, handler="base_handler", serializedFile="net.pt", modelVersion=stated)
    assert dict(only(tmp_path).toml.version_labels) == labels


def test_archives_whose_names_begin_alike_are_models_of_their_own(tmp_path: Path) -> None:
    for name in ("net-18", "net-34", "net.v2", "net"):
        mar(tmp_path / f"{name}.mar", {"n.pt": torchscript()}, handler="base_handler", serializedFile="n.pt")
    before = {config.name: config for config in scan(tmp_path, RUNTIMES)}
    assert list(before) == ["net-18", "net-34", "net", "net.v2"]
    assert all(config.files == (tmp_path / f"{name}.mar",) for name, config in before.items())
    (tmp_path / "net-34.mar").unlink()
    assert before["net-18"].unchanged()
    assert before["net"].unchanged()


def test_an_archive_with_the_name_of_another_model_is_refused(tmp_path: Path) -> None:
    mar(tmp_path / "net.mar", {"n.pt": torchscript()}, handler="base_handler", serializedFile="n.pt")
    (tmp_path / "net" / "1").mkdir(parents=True)
    (tmp_path / "net" / "1" / "n.pt").write_bytes(torchscript())
    folder, archive = scan(tmp_path, RUNTIMES)
    assert (folder.version, folder.problem) == ("1", "")
    assert archive.problem == "'net.mar' has the name of another model in the repository; rename one of them"


def test_an_archive_that_cannot_be_read_does_not_affect_others(tmp_path: Path) -> None:
    mar(tmp_path / "good.mar", {"n.pt": torchscript()}, handler="base_handler", serializedFile="n.pt")
    mar(tmp_path / "long.mar", {"n.pt": torchscript()}, handler="base_handler", serializedFile="n" * 300)
    (tmp_path / "gone.mar").symlink_to(tmp_path / "nowhere.mar")
    found = {config.name: config.problem for config in scan(tmp_path, RUNTIMES)}
    assert found["good"] == ""
    assert found["gone"] == "'gone.mar' cannot be read: No such file or directory"
    assert found["long"].startswith("its manifest names the model 'nnn")


@pytest.mark.parametrize(
    ("handler", "program", "extras"),
    [
        ("text_classifier", "", ["captum==", "torchserve=="]),
        ("object_detector", "", ["captum==", "torchserve==", "torchvision=="]),
        ("own.py", "from ts.torch_handler.base_handler import BaseHandler", ["torchserve=="]),
        (
            "own.py:run",
            "from ts.torch_handler.image_classifier import X",
            ["captum==", "torchserve==", "torchvision=="],
        ),
    ],
)
def test_a_handler_that_is_a_program_is_an_artifact_with_the_packages_of_its_server(
    tmp_path: Path, handler: str, program: str, extras: list[str]
) -> None:
    files = {
        "net.pt": torchscript(),
        "requirements.txt": b"iniconfig\n",
        **({"own.py": program.encode()} if program else {}),
    }
    mar(
        tmp_path / "m" / "1" / "a.mar",
        files,
        handler=handler,
        serializedFile="net.pt",
        requirementsFile="requirements.txt",
    )
    config = only(tmp_path)
    assert config.problem == ""
    assert config.artifact is not None
    assert (config.artifact.runtime.installed_name, config.artifact.path.name) == ("python", "MANIFEST.json")
    packages = config.artifact.runtime.requirements["cpu"]
    assert [
        name for name in ("captum==", "torchserve==", "torchvision==") if any(p.startswith(name) for p in packages)
    ] == (extras)
    assert "iniconfig" in packages
    assert (config.toml.max_batch_size, config.toml.warmup, config.toml.preprocess) == (1, 0, None)
    with pytest.raises(NotAllowed) as caught:
        check_program(config, SandboxPolicy())
    assert str(caught.value) == (
        f"its handler {handler} is a program, which this gateway does not run; start it with --allow-python if you "
        'trust its author, or write runtime = "torchscript" in model.toml to serve the model without it'
    )
    check_program(config, SandboxPolicy(programs=True))
    (tmp_path / "m" / "model.toml").write_text('runtime = "torchscript"\n')
    config = only(tmp_path)
    assert config.artifact is not None
    assert config.artifact.path.name == "net.pt"


def test_the_settings_of_a_handler_are_those_of_its_model_config(tmp_path: Path) -> None:
    config = b"batchSize: 4\nmaxBatchDelay: 20\nresponseTimeout: 9\nown: {key: [1]}\n"
    files = {"net.pt": torchscript(), "own.py": b"", "c.yaml": config}
    model = {"handler": "own.py", "serializedFile": "net.pt"}
    toml = only(mar(tmp_path / "a.mar", files, **model, configFile="c.yaml")).toml
    assert (toml.max_batch_size, toml.queue_delay_ms, toml.execution_timeout_s) == (4, 20, 9)
    no_delay = {**files, "c.yaml": b"maxBatchDelay: 0\nbatchSize: 2\n"}
    toml = only(mar(tmp_path / "a.mar", no_delay, **model, configFile="c.yaml")).toml
    assert (toml.max_batch_size, toml.queue_delay_ms) == (2, 0)
    for content in ("batchSize: 0", "batchSize: -1", "batchSize: 1.5", "batchSize: [1]", "maxBatchDelay: 99999"):
        with pytest.raises(RepositoryError, match=r"its c\.yaml must have a whole number from [01] to 60000 as"):
            scan(mar(tmp_path / "a.mar", {**files, "c.yaml": content.encode()}, **model, configFile="c.yaml"), RUNTIMES)
    with pytest.raises(RepositoryError, match=r"its manifest names the file '\.\./c\.yaml', which it does not hold"):
        scan(mar(tmp_path / "a.mar", files, **model, configFile="../c.yaml"), RUNTIMES)


def test_only_its_handler_loads_an_eager_model(tmp_path: Path) -> None:
    files = {"w.pt": b"", "net.py": b""}
    model = {"serializedFile": "w.pt", "modelFile": "net.py", "handler": "base_handler"}
    mar(tmp_path / "m" / "1" / "a.mar", files, **model)
    artifact = only(tmp_path).artifact
    assert artifact is not None
    assert artifact.platform == "handler"
    (tmp_path / "m" / "model.toml").write_text('runtime = "torchscript"\n')
    assert only(tmp_path).problem.startswith("only its handler base_handler can load its model: remove runtime")


@pytest.mark.parametrize(("runtime", "expected"), [("", "n-symbol.json"), ('runtime = "python"', "MANIFEST.json")])
def test_a_handler_of_multi_model_server_runs_if_model_toml_says_so(
    tmp_path: Path, runtime: str, expected: str
) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "model.toml").write_text(runtime)
    manifest = {"model": {"handler": "service:handle"}}
    with zipfile.ZipFile(tmp_path / "m" / "1" / "m.mar", "w") as archive:
        files = {"n-symbol.json": SYMBOL, "n-0000.params": "", "service.py": "import mxnet"}
        files |= {"signature.json": json.dumps(SIGNATURE), "MAR-INF/MANIFEST.json": json.dumps(manifest)}
        for name, text in files.items():
            archive.writestr(name, text)
    config = only(tmp_path)
    assert config.artifact is not None
    assert config.artifact.path.name == expected
    assert bool(config.toml.inputs) == (not runtime)
    has_mxnet = "mxnet==1.9.1" in config.artifact.runtime.requirements["cpu"]
    assert has_mxnet
    assert ("multi-model-server==1.1.11" in config.artifact.runtime.requirements["cpu"]) == bool(runtime)


@pytest.mark.parametrize(
    ("files", "model", "said"),
    [
        ({}, {"handler": ""}, "its manifest names no handler"),
        ({}, {"serializedFile": "w.pt"}, "its manifest names the model 'w.pt', which it does not hold"),
        ({"w.pt": b""}, {"serializedFile": "../w.pt"}, "names the model '../w.pt', which it does not hold"),
        ({"w.pt": torchscript(), "index_to_name.json": {"a": "x"}}, {"serializedFile": "w.pt"}, "index_to_name.json"),
        ({"w.pt": torchscript(), "index_to_name.json": b"{"}, {"serializedFile": "w.pt"}, "is not JSON"),
        (
            {"w.pt": torchscript(), "index_to_name.json": {"0": "\ud800"}},
            {"serializedFile": "w.pt"},
            "its index_to_name.json has text that is not Unicode",
        ),
        ({"w.pt": torchscript()}, {"serializedFile": "w.pt", "handler": "\udfff"}, "its MANIFEST.json has text that"),
        ({"../w.pt": b""}, {"serializedFile": "w.pt"}, "cannot be opened: the name '../w.pt' is refused"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_reason(
    tmp_path: Path, files: dict[str, Any], model: dict[str, str], said: str
) -> None:
    with pytest.raises(RepositoryError) as caught:
        scan(mar(tmp_path / "a.mar", files, **{"handler": "base_handler", **model}), RUNTIMES)
    assert said in str(caught.value)
    assert str(tmp_path / "home") not in str(caught.value)


@pytest.mark.parametrize(
    ("form", "said"),
    [("MXNet-Symbolic", ""), ("Gluon-Imperative", "its model is a program of Gluon, which is not run")],
)
def test_the_first_archives_of_multi_model_server(tmp_path: Path, form: str, said: str) -> None:
    model = {"Symbol": "n-symbol.json", "Parameters": "n-0000.params", "Service": "service.py", "Model-Format": form}
    (tmp_path / "m" / "1").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "m" / "1" / "net.model", "w") as archive:
        archive.writestr("MANIFEST.json", json.dumps({"Model-Archive-Version": 0.2, "Model": model}))
        archive.writestr("n-symbol.json", SYMBOL)
        archive.writestr("n-0000.params", "x")
        archive.writestr("signature.json", json.dumps(SIGNATURE))
    config = only(tmp_path)
    assert config.problem.startswith(said)
    assert bool(config.problem) == bool(said)
    assert [each.name for each in config.toml.inputs] == ([] if said else ["data"])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"n-symbol.json": SYMBOL, "signature.json": '{"inputs": [{"data_name": "a\\nb", "data_shape": [0]}]}'},
            "its sign",
        ),
    ],
)
def test_an_archive_of_multi_model_server_that_is_refused(tmp_path: Path, files: dict[str, str], said: str) -> None:
    files = {"signature.json": json.dumps(SIGNATURE), "MAR-INF/MANIFEST.json": '{"model": {"handler": "a:b"}}', **files}
    (tmp_path / "m" / "1").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "m" / "1" / "m.mar", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    assert only(tmp_path).problem.startswith(said)


def test_a_file_of_cntk_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "net.model").write_bytes(b"CNTK")
    config = only(tmp_path / "net.model")
    assert config.artifact is not None
    assert config.artifact.runtime.name == "cntk"


@pytest.mark.parametrize("name", ["net.mar", "net.model", "net.tar.gz"])
def test_multi_model_server(tmp_path: Path, name: str) -> None:
    files = {"n-symbol.json": SYMBOL, "n-0000.params": "x", "service.py": "", "signature.json": json.dumps(SIGNATURE)}
    files |= {"synset.txt": "n1 cat\nn2 dog\n", "MAR-INF/MANIFEST.json": '{"model": {"handler": "service:handle"}}'}
    if name.endswith(".tar.gz"):
        with tarfile.open(tmp_path / name, "w:gz") as tarred:
            for file, text in files.items():
                info = tarfile.TarInfo(f"net/{file}")
                info.size = len(text)
                tarred.addfile(info, io.BytesIO(text.encode()))
    else:
        with zipfile.ZipFile(tmp_path / name, "w") as zipped:
            for file, text in files.items():
                zipped.writestr(file, text)
    config = only(tmp_path / name)
    assert config.artifact is not None
    assert config.artifact.platform == "mxnet_symbol"
    assert [(each.name, each.shape) for each in config.toml.inputs] == [("data", (-1, 3, -1, 224))]
    assert [(each.name, each.shape) for each in config.toml.outputs] == [("softmax", None)]
    assert config.class_labels == {"softmax": ("n1 cat", "n2 dog")}
    assert "its handler service:handle is a program, which is not run" in config.warning


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.pth", "code/inference.py"], "model.pth"),
        (["weights.bin", "code/inference.py"], "inference.py"),
        (["code/inference.py", "code/helper.py"], "inference.py"),
        (["export/Servo/1/saved_model.pb", "export/Servo/2/saved_model.pb"], "2"),
        (["m-symbol.json", "m-0000.params", "m-shapes.json"], "m-symbol.json"),
    ],
)
def test_the_content_of_sagemakers_archive_decides(tmp_path: Path, names: list[str], expected: str) -> None:
    tar(tmp_path / "m" / "1" / "model.tar.gz", *names)
    config = only(tmp_path)
    assert config.artifact is not None
    assert config.artifact.path.name == expected
    assert ("its handler code/inference.py is a program, which is not run" in config.warning) == ("model.pth" in names)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a/model.pt", "b/model.pt"], "it holds several models, in a, b; keep one"),
        (["code/other.py"], "no artifact that a runtime reads"),
        (["model.py"], "no artifact that a runtime reads"),
        (["inner.tar.gz"], "no artifact that a runtime reads"),
        (["/etc/model.pt"], "cannot be opened: the name '/etc/model.pt' is refused"),
    ],
)
def test_an_archive_without_one_model_is_refused(tmp_path: Path, names: list[str], said: str) -> None:
    tar(tmp_path / "m" / "1" / "model.tar.gz", *names)
    assert said in only(tmp_path).problem


def test_an_archive_in_an_unrelated_folder_is_not_opened(tmp_path: Path, modelport_home: Path) -> None:
    tar(tmp_path / "repository" / "backup" / "all.tar.gz", "model.pt")
    tar(tmp_path / "repository" / "m" / "1" / "model.tar.gz", "model.pt")
    assert [config.name for config in scan(tmp_path / "repository", RUNTIMES)] == ["m"]
    assert len(contents(modelport_home)) == 1


def test_an_archive_next_to_a_model_is_left_alone(tmp_path: Path) -> None:
    tar(tmp_path / "m" / "1" / "data.tar.gz", "data.csv")
    (tmp_path / "m" / "1" / "net.pt").write_bytes(torchscript())
    config = only(tmp_path)
    assert config.artifact is not None
    assert (config.artifact.archive, config.warning) == (None, "")


def test_an_archive_beside_its_content_is_not_read_and_a_warning_says_so(tmp_path: Path) -> None:
    tar(tmp_path / "m" / "1" / "model.tar.gz", "model.pt")
    assert not only(tmp_path).warning
    (tmp_path / "m" / "1" / "model.pt").write_bytes(torchscript())
    config = only(tmp_path)
    assert config.artifact is not None
    assert config.artifact.path == tmp_path / "m" / "1" / "model.pt"
    assert config.warning == ("its model.tar.gz is not read, because its folder has model.pt, too: remove one of them")


def test_a_folder_beside_its_archive_is_not_read_and_a_warning_says_so(tmp_path: Path) -> None:
    tar(tmp_path / "net.tar.gz", "model.pt")
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "model.pt").write_bytes(torchscript())
    assert only(tmp_path).warning == "its folder net is not read, because net.tar.gz lies beside it: remove one of them"


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("[]", "its MANIFEST.json has no object 'model', which says what is in it; archive it again"),
        ('{"model": []}', "its MANIFEST.json has no object 'model', which says what is in it; archive it again"),
        ('{"model": {"modelName": "m"}}', "its manifest names no handler"),
    ],
)
def test_a_manifest_that_names_nothing_is_refused(tmp_path: Path, manifest: str, said: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", manifest)
        archive.writestr("n-symbol.json", SYMBOL)
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "a.mar").rename(tmp_path / "m" / "1" / "a.mar")
    assert only(tmp_path).problem == said


def test_a_content_is_unpacked_once_and_removed_when_its_archive_has_changed_twice(
    tmp_path: Path, modelport_home: Path
) -> None:
    path = tmp_path / "m.tar.gz"
    folders = []
    for content in ("a.pt", "b.pt", "c.pt"):
        path.unlink(missing_ok=True)
        folders.append(unpacked(tar(path, content)).parent.name)
        assert unpacked(path).parent.name == folders[-1]
    # A worker may still use the one before.
    assert contents(modelport_home) == set(folders[1:])


def test_what_a_process_has_left_is_kept_while_its_archive_is_there(tmp_path: Path, modelport_home: Path) -> None:
    script = "import sys, pathlib; from gateway.repository.archives import unpacked\n"
    script += "for each in sys.argv[1:]: print(unpacked(pathlib.Path(each)).parent.name)"
    first, second = tar(tmp_path / "a.tar.gz", "a.pt"), tar(tmp_path / "b.tar.gz", "b.pt")
    command = [sys.executable, "-c", script, str(first), str(second)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    names = done.stdout.split()
    assert contents(modelport_home) == set(names)
    first.unlink()
    assert unpacked(second).parent.name == names[1]
    assert contents(modelport_home) == {names[1]}


def contents(modelport_home: Path) -> set[str]:
    return {each.name for each in (modelport_home / "archives" / "contents").iterdir()}


def test_a_scan_reads_an_unchanged_archive_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    monkeypatch.setattr("gateway.repository.archived.unpacked", lambda file: opened.append(file) or unpacked(file))
    mar(tmp_path / "m.mar", {"net.pt": torchscript()}, handler="base_handler", serializedFile="net.pt")
    cache = ScanCache()
    for _ in range(3):
        assert [config.name for config in scan(tmp_path, RUNTIMES, cache=cache)] == ["m"]
    assert len(opened) == 1


def test_a_content_is_removed_when_its_archive_is_gone(tmp_path: Path, modelport_home: Path) -> None:
    cache = ScanCache()
    for name in ("a", "b", "c"):
        mar(tmp_path / "r" / f"{name}.mar", {"n.pt": torchscript()}, handler="base_handler", serializedFile="n.pt")
    assert len(scan(tmp_path / "r", RUNTIMES, cache=cache)) == len(contents(modelport_home)) == 3
    (tmp_path / "r" / "b.mar").unlink()
    assert len(scan(tmp_path / "r", RUNTIMES, cache=cache)) == len(contents(modelport_home)) == 2
    # The volume may be back soon.
    for file in (tmp_path / "r").iterdir():
        file.unlink()
    assert scan(tmp_path / "r", RUNTIMES, cache=cache) == []
    assert len(contents(modelport_home)) == 2


@pytest.mark.parametrize("what", ["a content", "everything"])
def test_what_somebody_has_removed_from_the_cache_is_unpacked_again(
    tmp_path: Path, modelport_home: Path, what: str
) -> None:
    mar(tmp_path / "r" / "a.mar", {"n.pt": torchscript()}, handler="base_handler", serializedFile="n.pt")
    cache = ScanCache()
    (before,) = scan(tmp_path / "r", RUNTIMES, cache=cache)
    (content,) = contents(modelport_home)
    archives = modelport_home / "archives"
    shutil.rmtree(archives / "contents" / content if what == "a content" else archives)
    (after,) = scan(tmp_path / "r", RUNTIMES, cache=cache)
    assert after == before
    assert after.artifact is not None
    assert after.artifact.path.is_file()
    assert any(content in file.read_text() for file in (archives / "processes").iterdir())  # it is in use


def test_a_full_disk_is_no_property_of_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tar(tmp_path / "m.tar.gz", "a.pt")

    def unpack(archive: Path, folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("gateway.repository.archives.unpack", unpack)
        for _ in range(2):
            with pytest.raises(StoreError, match="No space left on device"):
                unpacked(path)
    with pytest.raises(StoreError, match="No space left on device"):
        unpacked(path)  # not at each scan
    monkeypatch.setattr("gateway.repository.archives.time", SimpleNamespace(monotonic=lambda: time.monotonic() + 60))
    assert (unpacked(path) / "a.pt").is_file()


def test_a_broken_archive_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.tar.gz"
    path.write_bytes(b"no archive")
    read: list[Path] = []
    monkeypatch.setattr("gateway.repository.archives.unpack", lambda *given: read.append(path) or unpack(*given))
    monkeypatch.setattr("gateway.repository.archives._RETRY_S", 0)
    for _ in range(2):
        with pytest.raises(StoreError, match="is damaged"):
            unpacked(path)
    assert read == [path]


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path, modelport_home: Path) -> None:
    script = (
        "import os, sys, pathlib\nfrom gateway.contents.cache import Cache\nfrom gateway.repository import archives\n"
    )
    script += "Cache.use = lambda *given: os._exit(0)\narchives.unpacked(pathlib.Path(sys.argv[1]))"
    first, second = tar(tmp_path / "a.tar.gz", "a.pt"), tar(tmp_path / "b.tar.gz", "b.pt")
    subprocess.run([sys.executable, "-c", script, str(first)], check=True, cwd=ROOT)
    assert len(contents(modelport_home)) == 1
    first.unlink()
    assert {unpacked(second).parent.name} == contents(modelport_home)
