"""A model of TensorFlow.js that is served without a repository brings its weights, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.repository.artifact_files import artifact_files


def files(folder: Path, content: Any) -> list[str]:
    model = folder / "model.json"
    model.write_text(content if isinstance(content, str) else json.dumps(content))
    return [str(file.relative_to(folder)) for file in artifact_files(model)]


def test_the_files_that_the_manifest_names(tmp_path: Path) -> None:
    groups = [{"paths": ["a.bin", "./b.bin"]}, {"paths": ["below/c.bin"]}]
    assert files(tmp_path, {"weightsManifest": groups}) == ["a.bin", "b.bin", "below/c.bin", "model.json"]


@pytest.mark.parametrize("name", ["../a.bin", "/etc/passwd", "b/../../a.bin", ".ssh/id_rsa", "", "a//b", 3])
def test_no_other_files(tmp_path: Path, name: Any) -> None:
    assert files(tmp_path, {"weightsManifest": [{"paths": [name]}]}) == ["model.json"]


@pytest.mark.parametrize("content", ["{", "[]", "3", {"weightsManifest": [3]}, {"weightsManifest": None}], ids=str)
def test_other_json(tmp_path: Path, content: Any) -> None:
    assert files(tmp_path, content) == ["model.json"]
