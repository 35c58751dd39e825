"""TensorFlow Serving's models.config: its models, its errors and its warnings."""

import os
import shutil
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.environments.runtime import discover
from gateway.repository.errors import RepositoryError
from gateway.repository.model_config import ModelConfig
from gateway.repository.models_config import ModelsConfig

RUNTIMES = discover()


def add(folder: Path, *versions: int) -> Path:
    for version in versions:
        file = folder / f"{version:08}" / "model.onnx"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("an artifact")
        os.utime(file, (1, 1))
    return folder


def config(name: str, base_path: object, more: str = "") -> str:
    return f'config {{ name: "{name}" base_path: "{base_path}" model_platform: "tensorflow" {more} }}\n'


def write(file: Path, *configs: str) -> Path:
    file.write_text("# models\nmodel_config_list {\n" + "".join(configs) + "}\n")
    return file


def look(file: Path, scan: ModelsConfig | None = None) -> list[ModelConfig]:
    return (scan or ModelsConfig())(file, RUNTIMES)


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("", ["3"]),
        ("model_version_policy { }", ["3"]),
        ("model_version_policy { latest { } }", ["3"]),
        ("model_version_policy: { latest { num_versions: 2 } }", ["2", "3"]),
        ("model_version_policy { all {} }", ["1", "2", "3"]),
        ("model_version_policy { specific { versions: 1 versions: 3 versions: 9 } }", ["1", "3"]),
    ],
)
def test_the_policy_selects_versions(tmp_path: Path, policy: str, versions: list[str]) -> None:
    file = write(tmp_path / "models.config", config("m", add(tmp_path / "far" / "m", 1, 2, 3), policy))
    found = look(file)
    assert [(each.name, each.version, each.problem) for each in found] == [("m", version, "") for version in versions]


def test_models_have_the_paths_and_names_of_the_file(tmp_path: Path) -> None:
    add(tmp_path / "one" / "x", 1)
    add(tmp_path / "models" / "x", 7)
    text = [config("a", tmp_path / "one" / "x"), config("b", "x")]
    found = look(write(tmp_path / "models" / "models.config", *text))
    assert [(each.name, each.version) for each in found] == [("a", "1"), ("b", "7")]
    assert found[0].artifact is not None
    assert found[0].artifact.path.is_relative_to(tmp_path / "one" / "x")


def test_labels_and_policy_override_model_toml(tmp_path: Path) -> None:
    folder = add(tmp_path / "m", 1, 2)
    toml = 'max_batch_size = 4\n[version_policy]\nlatest = 1\n[version_labels]\n"old" = 1\n'
    (folder / "model.toml").write_text(toml)
    file = write(tmp_path / "models.config", config("m", folder))
    assert [(each.version, each.toml.version_labels) for each in look(file)] == [("2", {"old": 1})]
    labels = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'
    write(file, config("m", folder, "model_version_policy { all {} } " + labels))
    for each in look(file):
        assert (each.toml.version_labels, each.toml.max_batch_size) == ({"stable": 1, "canary": 2}, 4)


def test_changes_of_a_version_change_its_fingerprint(tmp_path: Path) -> None:
    folder, moved = add(tmp_path / "m", 1, 2), add(tmp_path / "moved", 1, 2)
    file = tmp_path / "models.config"

    def fingerprints(path: Path, labels: str) -> list[str]:
        write(file, config("m", path, "model_version_policy { all {} } " + labels))
        return [each.fingerprint for each in look(file)]

    first = fingerprints(folder, "")
    assert fingerprints(folder, "") == first
    labelled = fingerprints(folder, 'version_labels { key: "stable" value: 1 }')
    assert (labelled[0] != first[0], labelled[1] == first[1]) == (True, True)
    assert not set(fingerprints(moved, "")) & set(first)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (config("m", ""), "it has no base_path in models.config"),
        (config("m", "s3://bucket/m"), "its base_path is a URL"),
        (config("m", "nosuch"), "its folder cannot be read: No such file"),
        (config("m", "empty"), "it has no version folder"),
        (config("m", "good", "model_version_policy { specific {} }"), "is specific, but names no versions"),
        (config("m", "good", "model_version_policy { specific { versions: 9 } }"), "selects none of the versions [1]"),
        (
            config("m", "good", 'version_labels { key: "1" value: 1 }'),
            "a label must be a word that begins",
        ),
    ],
)
def test_a_broken_model_does_not_affect_others(tmp_path: Path, text: str, says: str) -> None:
    add(tmp_path / "good", 1)
    (tmp_path / "empty").mkdir()
    broken, good = look(write(tmp_path / "models.config", text, config("other", "good")))
    assert (broken.name, says in broken.problem) == ("m", True), broken.problem
    assert (good.name, good.problem) == ("other", "")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no model_config_list"),
        ("foo {" * 3000, "nested too deeply"),
        (" " * ((1 << 20) + 1), "over the limit of"),
        ("custom_model_config { }", "has no model_config_list"),
        ("model_config_list {", "is not a models.config in protobuf's text format"),
        ('{"model_config_list": []}', "is not a models.config in protobuf's text format"),
        ("model_config_list { config { name: 1 } }", "is not a models.config in protobuf's text format"),
        ("model_config_list { config { nosuch: 1 name: 1 } }", "is not a models.config in protobuf's text format"),
        ("model_config_list { config { } }", "config 1 has the name ''"),
        ('model_config_list { config { name: "a/b" } }', "config 1 has the name 'a/b'"),
        ('model_config_list { config { name: "a" } config { name: "a" } }', "two configs for model 'a'"),
    ],
)
def test_an_invalid_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "models.config"
    file.write_text(text)
    with pytest.raises(RepositoryError) as caught:
        look(file)
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(file))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="cannot be read: No such file"):
        look(tmp_path / "nosuch")
    (tmp_path / "latin").write_bytes("# é".encode("latin-1"))
    with pytest.raises(RepositoryError, match="is not UTF-8"):
        look(tmp_path / "latin")


def test_a_file_without_models_is_valid(tmp_path: Path) -> None:
    assert look(write(tmp_path / "models.config")) == []


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("nosuch: 1 other { deep: 'name: {' } # not: this\n", "there is no field nosuch, other, deep; it is ignored"),
        ("latest { }", 'no field named "latest"'),
        (
            "model_type: TENSORFLOW logging_config { sampling { rate: 1 } }",
            "there is no field logging_config, sampling, ",
        ),
        (
            'version_labels { key: "stable" value: 9 }',
            "label 'stable' of model 'm' names version 9, which is not served",
        ),
    ],
)
def test_each_warning_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, more: str, says: str) -> None:
    file = write(tmp_path / "models.config", config("m", add(tmp_path / "m", 1), more))
    scan = ModelsConfig()
    for _ in range(3):
        assert [each.version for each in look(file, scan)] == ["1"]
    (record,) = caplog.records
    assert (record.levelname, says in record.getMessage()) == ("WARNING", True), record.getMessage()
    write(file, config("m", tmp_path / "m"))
    look(file, scan)
    write(file, config("m", tmp_path / "m", more))
    look(file, scan)
    assert len(caplog.records) == 2


def test_the_file_is_read_at_every_scan(tmp_path: Path) -> None:
    scan = ModelsConfig()
    file = write(tmp_path / "models.config", config("a", add(tmp_path / "m", 1)))
    assert [each.name for each in look(file, scan)] == ["a"]
    write(file, config("a", tmp_path / "m"), config("b", tmp_path / "m"))
    assert [each.name for each in look(file, scan)] == ["a", "b"]
    shutil.rmtree(tmp_path / "m")
    assert all(each.problem for each in look(file, scan))


@pytest.mark.parametrize("by", ["flag", "variable", "file"])
def test_a_repository_in_addition_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["serve", "models"] + (["--models-config", "models.config"] if by == "flag" else [])
    if by == "variable":
        monkeypatch.setenv("MODELPORT_MODELS_CONFIG", "models.config")
    if by == "file":
        (tmp_path / "modelport.toml").write_text('models_config = "models.config"')
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said == "modelport: give repositories or models_config ('models.config'), not both\n"


def test_serve_reports_what_is_wrong_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["serve", "--models-config", "models.config"]) == 2
    assert "models.config cannot be read: No such file or directory" in capsys.readouterr().err
