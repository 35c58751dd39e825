"""A session that is replaced after a failed run."""

from pathlib import Path
from typing import Any

import pytest

from runtimes.contract import DeviceLost, LoadOptions
from runtimes.onnx.renewal import renewed


def session(number: int) -> Any:
    def run(outputs: Any, feed: dict[str, Any], options: Any) -> list[int]:
        if feed["x"] < 0:
            raise ValueError("negative")
        return [number]

    return run


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")  # without external weights
    return path


@pytest.mark.parametrize("from_bytes", [True, False])
def test_another_session_runs_after_a_failed_run(artifact: Path, from_bytes: bool) -> None:
    created: list[Any] = []

    def create(model: Any) -> Any:
        created.append(model)
        return session(len(created))

    source: Any = b"model" if from_bytes else str(artifact)
    run = renewed(session(0), source, LoadOptions(str(artifact)), create)
    assert run((), {"x": 1}, None) == [0]
    for _ in range(2):
        with pytest.raises(ValueError, match="negative"):
            run((), {"x": -1}, None)
    assert run((), {"x": 1}, None) == [2]
    assert run((), {"x": 1}, None) == [2]
    assert created == [source, source][: len(created)]


@pytest.mark.parametrize("how", ["changed", "deleted"])
def test_a_file_that_has_changed_ends_the_worker(artifact: Path, how: str) -> None:
    run = renewed(session(0), str(artifact), LoadOptions(str(artifact)), lambda model: session(1))
    with pytest.raises(ValueError, match="negative"):
        run((), {"x": -1}, None)
    if how == "changed":
        artifact.write_bytes(b"other")
    else:
        artifact.unlink()
    with pytest.raises(DeviceLost, match="has changed"):
        run((), {"x": 1}, None)
