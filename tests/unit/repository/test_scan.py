"""Scans of a repository. A broken folder does not affect others."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.environments.runtime import discover
from gateway.repository.errors import RepositoryError
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_toml import ModelConfigError, read_model_toml
from gateway.repository.scan import scan
from tests.unit.repository.test_formats import torchscript

RUNTIMES = discover()


def add(repository: Path, name: str, version: str = "1") -> Path:
    file = repository / name / version / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_text(name)
    return file


def corrupt_archive(repository: Path) -> None:
    file = repository / "broken" / "1" / "model.pt"
    file.parent.mkdir(parents=True)
    torchscript(file)
    data = bytearray(file.read_bytes())
    data[data.rfind(b"PK\1\2") + 6] = 99  # the version that is needed to extract it
    file.write_bytes(data)


def name_that_is_not_utf8(repository: Path) -> None:
    os.makedirs(os.fsencode(repository) + b"/broken\xff/1")


def file_name_that_is_not_utf8(repository: Path) -> None:
    os.makedirs(os.fsencode(repository) + b"/broken/1")
    Path(os.fsdecode(os.fsencode(repository) + b"/broken/1/\xff.txt")).touch()


def version_that_is_a_file(repository: Path) -> None:
    (repository / "broken").mkdir()
    (repository / "broken" / "1").touch()


@pytest.mark.parametrize(
    "break_it", [corrupt_archive, name_that_is_not_utf8, file_name_that_is_not_utf8, version_that_is_a_file]
)
def test_a_broken_folder_does_not_affect_others(tmp_path: Path, break_it) -> None:  # type: ignore[no-untyped-def]
    add(tmp_path, "good")
    break_it(tmp_path)
    broken, good = sorted(scan(tmp_path, RUNTIMES), key=lambda config: config.name)
    assert (good.name, good.problem) == ("good", "")
    assert broken.problem
    broken.name.encode()


def test_a_repository_may_change_during_a_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path, "good")

    def vanished(folder: Path) -> dict[int, Path]:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("gateway.repository.model_folder.versions_in", vanished)
    (found,) = scan(tmp_path, RUNTIMES)
    assert found.problem == "its folder cannot be read: No such file or directory"


def test_an_unreadable_folder_does_not_affect_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root can read everything, so the system's error is simulated."""
    add(tmp_path, "good")
    (tmp_path / "team").mkdir()
    (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "fifo")
    real = Path.iterdir

    def forbidding(folder: Path):  # type: ignore[no-untyped-def]
        if folder.name == "team":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(Path, "iterdir", forbidding)
    found = {config.name: config.problem for config in scan(tmp_path, RUNTIMES)}
    assert found == {
        "good": "",
        "team": "its folder cannot be read: Permission denied",
        "dead": "its folder cannot be read: No such file or directory",
        "loop": "its folder cannot be read: Too many levels of symbolic links",
    }


def test_folders_that_are_not_models_are_ignored(tmp_path: Path) -> None:
    add(tmp_path, "good")
    for name in ("lost+found", "@eaDir", "__MACOSX", "notes", ".git"):
        (tmp_path / name / "deeper").mkdir(parents=True)
    (tmp_path / "declared").mkdir()
    (tmp_path / "declared" / "model.toml").touch()
    (tmp_path / "unversioned").mkdir()
    (tmp_path / "unversioned" / "model.onnx").touch()
    found = {config.name: config.problem for config in scan(tmp_path, RUNTIMES)}
    expected = "it has no version folder; add one, such as 1, and put the artifact in it"
    assert found == {"good": "", "declared": expected, "unversioned": expected}


def test_files_that_macos_adds_are_not_artifacts(tmp_path: Path) -> None:
    file = add(tmp_path, "photos").rename(tmp_path / "photos" / "1" / "resnet50.onnx")
    before = scan(tmp_path, RUNTIMES)
    for stray in ("photos/1/._resnet50.onnx", "photos/._1", "photos/.DS_Store", "photos/1/Thumbs.db"):
        (tmp_path / stray).write_bytes(b"\0")
    (tmp_path / "photos" / "1" / "__MACOSX").mkdir()
    (tmp_path / "photos" / "1" / "__MACOSX" / "resnet50.onnx").touch()
    (found,) = scan(tmp_path, RUNTIMES)
    assert found.artifact is not None
    assert (found.problem, found.artifact.path) == ("", file)
    assert [found] == before


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_a_replaced_file_changes_the_fingerprint_even_with_equal_size_and_time(tmp_path: Path, linked: str) -> None:
    """As rsync -t and image layers replace files, also through links."""
    repository, store = tmp_path / "repository", tmp_path / "store"
    stored = store / "model.onnx"
    store.mkdir()
    stored.write_text("old")
    os.utime(stored, ns=(0, 0))
    version = repository / "m" / "1"
    if linked == "folder":
        version.parent.mkdir(parents=True)
        version.symlink_to(store)
    else:
        version.mkdir(parents=True)
        (version / "model.onnx").symlink_to(stored)
    before = scan(repository, RUNTIMES)
    assert scan(repository, RUNTIMES) == before
    fresh = store / "fresh"
    fresh.write_text("new")
    os.utime(fresh, ns=(0, 0))
    fresh.replace(stored)
    (config,) = scan(repository, RUNTIMES)
    assert config.fingerprint != before[0].fingerprint


@pytest.mark.parametrize(
    ("what", "counts"),
    [
        ("st_size", True),
        ("st_mtime_ns", True),
        ("st_ctime_ns", True),  # chmod and chown change it too
        ("st_ino", True),
        ("st_dev", False),  # may differ each time a volume is mounted
        ("st_atime_ns", False),
        ("st_nlink", False),
    ],
)
def test_what_counts_as_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, counts: bool) -> None:
    add(tmp_path, "m")
    (before,) = scan(tmp_path, RUNTIMES)
    assert before.unchanged()
    real = os.stat

    def changed(*args: Any, **kwargs: Any) -> Any:
        about = real(*args, **kwargs)
        fields = {name: getattr(about, name) for name in dir(about) if name.startswith("st_")}
        return SimpleNamespace(**fields | {what: fields[what] + 1})

    monkeypatch.setattr(os, "stat", changed)
    assert before.unchanged() is not counts


def test_a_link_to_a_parent_folder_does_not_recurse(tmp_path: Path) -> None:
    file = add(tmp_path, "m")
    (file.parent / "again").symlink_to(file.parent)
    assert [config.problem for config in scan(tmp_path, RUNTIMES)] == [""]


def test_a_named_artifact_may_be_a_link(tmp_path: Path) -> None:
    file = add(tmp_path, "m")
    stored = tmp_path / "m" / "store"
    stored.mkdir()
    file.rename(stored / "net.onnx")
    file.symlink_to("../store/net.onnx")
    (tmp_path / "m" / "model.toml").write_text('artifact = "model.onnx"\n')
    assert [config.problem for config in scan(tmp_path, RUNTIMES)] == [""]
    (tmp_path / "m" / "model.toml").write_text('artifact = "../../../net.onnx"\n')
    assert "which is not in version" in scan(tmp_path, RUNTIMES)[0].problem


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_text_files_may_begin_with_a_byte_order_mark(tmp_path: Path, ends: str) -> None:
    """As Notepad and PowerShell save them."""
    add(tmp_path, "m")
    toml = ends.join(["[labels]", 'y = "labels.txt"', ""])
    (tmp_path / "m" / "model.toml").write_bytes(toml.encode("utf-8-sig"))
    (tmp_path / "m" / "labels.txt").write_bytes(ends.join(["cat", "dog\u2028s", ""]).encode("utf-8-sig"))
    (config,) = scan(tmp_path, RUNTIMES)
    assert (config.problem, config.class_labels) == ("", {"y": ("cat", "dog\u2028s")})
    (tmp_path / "m" / "model.toml").unlink()
    pbtxt = ends.join(['name: "m"', "max_batch_size: 8", ""])
    (tmp_path / "m" / "config.pbtxt").write_bytes(pbtxt.encode("utf-8-sig"))
    (config,) = scan(tmp_path, RUNTIMES)
    assert (config.problem, config.toml.max_batch_size) == ("", 8)


def test_versions_beyond_64_bits_are_ignored(tmp_path: Path) -> None:
    add(tmp_path, "good")
    add(tmp_path, "good", str(1 << 63))
    assert [config.version for config in scan(tmp_path, RUNTIMES)] == ["1"]


def test_several_folders_of_one_version_are_an_error(tmp_path: Path) -> None:
    for folder in ("1", "2", "02", "002"):
        add(tmp_path, "m", folder)
    (tmp_path / "m" / "model.toml").write_text("version_policy = { all = true }")
    first, second = scan(tmp_path, RUNTIMES)
    assert (first.version, first.problem) == ("1", "")
    assert (second.version, second.artifact) == ("2", None)
    assert second.problem == "its folders 002, 02 and 2 are all version 2; keep one of them"
    (tmp_path / "m" / "002" / "model.onnx").write_text("changed")
    assert scan(tmp_path, RUNTIMES)[1].fingerprint != second.fingerprint


def test_hidden_and_unrelated_files_do_not_change_the_fingerprint(tmp_path: Path) -> None:
    file = add(tmp_path / "repository", "m")
    for path in (tmp_path / "repository", file):
        (before,) = scan(path, RUNTIMES)
        (file.parent / ".model.onnx.swp").touch()
        (file.parent / "notes.txt").write_text(str(path)) if path is file else None
        (after,) = scan(path, RUNTIMES)
        assert after.fingerprint == before.fingerprint
    (file.parent / "model.onnx.data").touch()
    assert scan(file, RUNTIMES)[0].fingerprint != before.fingerprint


def test_parameters_that_json_cannot_represent_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.toml"
    file.write_text("[parameters]\nwhen = 2024-01-01\n")
    with pytest.raises(ModelConfigError, match="its values must be strings, finite numbers, booleans, lists or tables"):
        read_model_toml(file)


def only(repository: Path) -> ModelConfig:
    (config,) = scan(repository, RUNTIMES)
    return config


def test_model_toml_may_name_the_artifact_and_its_runtime(tmp_path: Path) -> None:
    add(tmp_path, "m")
    other = tmp_path / "m" / "1" / "other.onnx"
    other.touch()
    torchscript(tmp_path / "m" / "1" / "model.pt")
    assert "it holds several artifacts" in only(tmp_path).problem
    for toml, expected in (
        ('runtime = "onnx"', "model.onnx"),
        ('runtime = "torchscript"', "model.pt"),
        ('artifact = "other.onnx"', "other.onnx"),
        ('artifact = "model.pt"\nruntime = "torchscript"', "model.pt"),
    ):
        (tmp_path / "m" / "model.toml").write_text(toml)
        config = only(tmp_path)
        assert (config.problem, config.artifact and config.artifact.path.name) == ("", expected)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('artifact = "gone.onnx"', "its configuration names the artifact 'gone.onnx', which is not in version 1"),
        ('artifact = "../../secret.onnx"', "which is not in version 1"),
        ('artifact = "/etc/passwd"', "which is not in version 1"),
        ('artifact = "notes.txt"', "'notes.txt' is not an artifact that a runtime reads"),
        ('artifact = "model.onnx"\nruntime = "mxnet"', "'model.onnx' is not an artifact that a runtime reads"),
        ('runtime = "tensorrt"', "there is no runtime 'tensorrt'; there are "),
        ('[labels]\ny = "../labels.txt"', "the labels file '../labels.txt' must be in the model's own folder"),
        ('[labels]\ny = "labels.txt"', "the labels file 'labels.txt' cannot be read: No such file"),
    ],
)
def test_files_that_model_toml_names_must_exist(tmp_path: Path, toml: str, said: str) -> None:
    (add(tmp_path / "repository", "m").parent / "notes.txt").touch()
    (tmp_path / "secret.onnx").touch()
    (tmp_path / "repository" / "m" / "model.toml").write_text(toml)
    assert said in only(tmp_path / "repository").problem


def test_a_config_pbtxt_is_read_if_there_is_no_model_toml(tmp_path: Path) -> None:
    add(tmp_path, "m")
    pbtxt = tmp_path / "m" / "config.pbtxt"
    (tmp_path / "m" / "labels.txt").write_text("cat\ndog\n")
    pbtxt.write_text(
        'name: "m" platform: "onnxruntime_onnx" max_batch_size: 4 optimization { graph { level: 1 } } '
        'output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" } ]'
    )
    first = only(tmp_path)
    assert (first.problem, first.toml.max_batch_size, first.class_labels) == ("", 4, {"y": ("cat", "dog")})
    assert first.warning == "its config.pbtxt has settings that are ignored here: optimization"
    pbtxt.write_text('name: "m" max_batch_size: 16')
    second = only(tmp_path)
    assert (second.toml.max_batch_size, second.warning) == (16, "")
    assert second.fingerprint != first.fingerprint
    assert second.config_fingerprint != first.config_fingerprint
    (tmp_path / "m" / "model.toml").write_text("max_batch_size = 2")
    third = only(tmp_path)
    assert third.toml.max_batch_size == 2
    assert third.warning == "its config.pbtxt is not read, because there is a model.toml"


@pytest.mark.parametrize(
    ("pbtxt", "said"),
    [
        ("max_batch_size: many", "broken/config.pbtxt is not a model configuration"),
        ('platform: "ensemble"', "broken/config.pbtxt is an ensemble without steps"),
        ('platform: "pytorch_libtorch"', "no artifact that a runtime reads: it holds model.onnx; supported are *.pt"),
        ('default_model_filename: "net.onnx"', "its configuration names the artifact 'net.onnx'"),
        ('output [ { name: "y" label_filename: "l.txt" } ]', "the labels file 'l.txt' cannot be read"),
        ("version_policy { specific { versions: 3 } }", "its version policy selects none of the versions [1]"),
    ],
)
def test_an_invalid_config_pbtxt_does_not_affect_other_models(tmp_path: Path, pbtxt: str, said: str) -> None:
    add(tmp_path, "good")
    add(tmp_path, "broken")
    (tmp_path / "broken" / "config.pbtxt").write_text(pbtxt)
    broken, good = sorted(scan(tmp_path, RUNTIMES), key=lambda config: config.name)
    assert (good.problem, said in broken.problem) == ("", True), broken.problem


def test_a_model_that_is_a_program_has_a_runtime_of_its_own(tmp_path: Path) -> None:
    for name, requirements in {"plain": "", "packed": "emoji==2.15.0", "broken": "-r other.txt"}.items():
        folder = tmp_path / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.py").write_text("raise AssertionError('a scan imports nothing')")
        if requirements:
            (folder / "requirements.txt").write_text(requirements)
    found = {config.name: config for config in scan(tmp_path, RUNTIMES)}
    assert found["plain"].artifact is not None
    assert found["plain"].artifact.runtime is RUNTIMES["python"]
    assert found["packed"].artifact is not None
    assert found["packed"].artifact.runtime.requirements["cpu"] == ("numpy", "emoji==2.15.0")
    assert "line 1 of its requirements.txt is an option of pip" in found["broken"].problem
    (tmp_path / "packed" / "1" / "requirements.txt").write_text("emoji==2.14.0")
    assert {config.name: config for config in scan(tmp_path, RUNTIMES)}["packed"].fingerprint != found[
        "packed"
    ].fingerprint


def test_what_python_compiles_does_not_load_a_model_again(tmp_path: Path) -> None:
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").touch()
    [before] = scan(tmp_path, RUNTIMES)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "model.cpython-312.pyc").touch()
    assert scan(tmp_path, RUNTIMES) == [before]


def test_a_program_can_be_served_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "model.py").touch()
    (tmp_path / "requirements.txt").write_text("emoji==2.15.0")
    for path in (tmp_path, tmp_path / "model.py"):
        [found] = scan(path, RUNTIMES)
        assert found.artifact is not None
        assert found.artifact.path == tmp_path / "model.py"
        assert found.artifact.runtime.base == "python"
        assert found.readable == (tmp_path,), "it may import what is next to it"
    (tmp_path / "requirements.txt").write_text("-e .")
    with pytest.raises(RepositoryError, match="is an option of pip"):
        scan(tmp_path, RUNTIMES)
