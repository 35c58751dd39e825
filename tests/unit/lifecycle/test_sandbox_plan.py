"""What a model's box contains, and which exceptions need the operator's permission."""

from pathlib import Path
from typing import Any

import pytest

from gateway.environments.runtime import Runtime, discover, read_runtime
from gateway.lifecycle.sandbox import NotAllowed, SandboxPolicy, check_program, plan_box
from gateway.repository.model_config import ModelConfig
from gateway.repository.scan import scan
from tests.support import ROOT
from tests.support.model_repositories import add_fake

RUNTIME = Path("/runtimes/fake")


def config(repository: Path, toml: str = "") -> ModelConfig:
    add_fake(repository, "tiny", toml=toml)
    [found] = scan(repository, {"fake": fake_runtime()})
    assert not found.problem, found.problem
    return found


def fake_runtime() -> Runtime:
    return read_runtime(ROOT / "runtimes" / "fake", "fake")


def test_a_model_may_read_its_version_and_nothing_else(tmp_path: Path) -> None:
    box = plan_box(config(tmp_path), RUNTIME, SandboxPolicy())
    assert box is not None
    assert box.read == (str(RUNTIME), str(tmp_path / "tiny" / "1"))
    assert box.write == ()
    assert not box.network
    assert plan_box(config(tmp_path), RUNTIME, SandboxPolicy(enabled=False)) is None


@pytest.mark.parametrize(
    ("toml", "words", "expected"),
    [
        ("[sandbox]\nnetwork = true", "network", {"network": True}),
        ('[sandbox]\nread = ["/data/lookup"]', "read", {"read": "/data/lookup"}),
        ("[sandbox]\nenabled = false", "enabled", None),
    ],
)
def test_exceptions_need_the_operator(tmp_path: Path, toml: str, words: str, expected: dict[str, Any] | None) -> None:
    asking = config(tmp_path, toml)
    with pytest.raises(NotAllowed, match=rf"\({words}\).*--allow-sandbox-exceptions"):
        plan_box(asking, RUNTIME, SandboxPolicy())
    box = plan_box(asking, RUNTIME, SandboxPolicy(exceptions=True))
    if expected is None:
        assert box is None
        return
    assert box is not None
    assert box.network == expected.get("network", False)
    assert expected.get("read", str(RUNTIME)) in box.read


def test_a_link_out_of_the_model_is_an_exception(tmp_path: Path) -> None:
    secret, repository = tmp_path / "secret", tmp_path / "repository"
    secret.mkdir()
    (secret / "key").write_text("x")
    made = config(repository)
    (repository / "tiny" / "1" / "weights.bin").symlink_to(secret / "key")
    with pytest.raises(NotAllowed, match=r"'weights\.bin' is a link to a file outside"):
        plan_box(made, RUNTIME, SandboxPolicy())
    box = plan_box(made, RUNTIME, SandboxPolicy(exceptions=True))
    assert box is not None
    assert str(secret / "key") in box.read


def test_links_inside_a_model_and_links_to_a_model_are_followed(tmp_path: Path) -> None:
    """As mounted volumes have them: model → ..data/model, file → ../shared/file."""
    elsewhere, repository = tmp_path / "volume" / "model", tmp_path / "repository"
    add_fake(elsewhere.parent, "model")
    (elsewhere / "shared").mkdir()
    (elsewhere / "shared" / "weights.bin").write_text("x")
    (elsewhere / "1" / "weights.bin").symlink_to("../shared/weights.bin")
    repository.mkdir()
    (repository / "tiny").symlink_to(elsewhere)
    [found] = scan(repository, {"fake": fake_runtime()})
    box = plan_box(found, RUNTIME, SandboxPolicy())
    assert box is not None
    assert str(elsewhere / "shared" / "weights.bin") in box.read


def test_links_to_what_a_model_may_read_anyway_do_not_lengthen_its_box(tmp_path: Path) -> None:
    """Thousands of them, as in caches of models, would make the worker's command line too long."""
    made = config(tmp_path)
    version = tmp_path / "tiny" / "1"
    for number in range(10):
        (version / f"link-{number}").symlink_to("model.fake.json")
    box = plan_box(made, RUNTIME, SandboxPolicy())
    assert box is not None
    assert box.read == (str(RUNTIME), str(version))


def test_a_single_artifact_may_read_its_own_files_only(tmp_path: Path) -> None:
    artifact = tmp_path / "tiny.fake.json"
    artifact.write_text("{}")
    (tmp_path / "id_rsa").write_text("x")
    [found] = scan(artifact, {"fake": fake_runtime()})
    box = plan_box(found, RUNTIME, SandboxPolicy())
    assert box is not None
    assert box.read == (str(RUNTIME), str(artifact))


def test_a_single_onnx_file_may_read_its_weights_unless_they_are_hidden(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    for name in (".ssh/id_rsa", "weights.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0" * 4)
    tensors = []
    for number, name in enumerate((".ssh/id_rsa", "weights.bin")):
        tensor = onnx.TensorProto(name=f"w{number}", data_type=1, dims=[1], data_location=1)
        tensor.external_data.add(key="location", value=name)
        tensors.append(tensor)
    graph = helper.make_graph([], "g", [], [], tensors)
    (tmp_path / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    [found] = scan(tmp_path / "model.onnx", discover())
    assert found.readable == (tmp_path / "model.onnx", tmp_path / "weights.bin")


def test_a_program_needs_the_operator(tmp_path: Path) -> None:
    folder = tmp_path / "repository" / "m" / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").touch()
    [found] = scan(tmp_path / "repository", discover())
    with pytest.raises(NotAllowed, match=r"it is a program.*--allow-python"):
        check_program(found, SandboxPolicy())
    check_program(found, SandboxPolicy(programs=True))
    check_program(config(tmp_path / "other"), SandboxPolicy())
