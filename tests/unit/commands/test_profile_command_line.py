"""What is wrong with the arguments of `modelport profile` is said before anything is loaded."""

from pathlib import Path

import pytest

from gateway.cli import main
from tests.support import ROOT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody",), "there is no model 'nobody'"),
        (("digits_onnx", "--batch-sizes", "1,0"), "--batch-sizes '1,0': use numbers from 1 to 65536"),
        (("digits_onnx", "--threads", "two"), "--threads 'two': use numbers from 1 to 1024"),
        (("digits_onnx", "--latency-target-ms", "-1"), "--latency-target-ms is -1: it must be from 0 to 3600000"),
        (("digits_onnx", "--seconds", "nan"), "--seconds is nan: it must be from 0.001 to 3600"),
        (("digits_onnx", "--python", "onnx"), "use RUNTIME=PATH"),
        ((str(ROOT / "model_repo/digits_onnx/1/model.onnx"), "--apply"), "--apply needs a model in a repository"),
    ],
)
def test_what_is_wrong_is_said(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = ("--repository", str(ROOT / "model_repo"))
    assert main(["profile", *arguments, *repository, "--output", str(tmp_path / "out")]) in (1, 2)
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    assert main(["profile", "nobody", "--output", str(file / "out")]) == 1
    assert f"{file} is not a folder that can be written to" in capsys.readouterr().err
