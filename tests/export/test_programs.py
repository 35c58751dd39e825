"""Programs of torch.export: outputs that are declared in part, and BF16 in the interface."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.export.errors import CannotExport
from tests.support.export_runs import run_export

MAKE = Path(__file__).parent / "make_programs.py"
SECOND = '[[outputs]]\nname = "second"\ndatatype = "FP32"\nshape = [-1, 2]\n'


@pytest.fixture(scope="module")
def repository(runtime_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    command = [runtime_python("torchscript"), "-I", "-W", "ignore", MAKE, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    (folder / "halves" / "model.toml").write_text(SECOND)
    return folder


def test_outputs_declared_in_part_are_exported_by_name(repository: Path, tmp_path: Path) -> None:
    report = run_export("halves", "onnx", tmp_path / "export", repository=repository)
    assert [name for name, *_ in report.outputs] == ["second"]


def test_outputs_of_torchscript_with_declared_names_are_exported_by_way_of_a_program(tmp_path: Path) -> None:
    report = run_export("digits_torchscript", "executorch", tmp_path / "export")
    assert [name for name, *_ in report.outputs] == ["scores"]


def test_an_output_with_the_name_of_an_input_is_refused_by_name_where_the_target_lacks_it(
    repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(CannotExport, match="ONNX cannot have an output with the name of an input, as 'x': rename one"):
        run_export("updates", "onnx", tmp_path / "export", repository=repository)


def test_bf16_is_exported_where_the_target_has_it(repository: Path, tmp_path: Path) -> None:
    report = run_export("edges", "onnx", tmp_path / "export", repository=repository)
    assert [datatype for _, datatype, *_ in (*report.inputs, *report.outputs)] == ["BF16", "BF16"]
    assert [each for each in report.notes if "BF16" in each] == [
        "output 'OUTPUT__0' is BF16: numbers that differ only by being rounded to it are equal"
    ]


@pytest.mark.parametrize("target", ["tflite", "tfjs", "web"])
def test_bf16_is_refused_where_the_target_lacks_it(repository: Path, tmp_path: Path, target: str) -> None:
    with pytest.raises(CannotExport, match=f"is BF16, which {target} lacks: export the model to onnx or executorch"):
        run_export("edges", target, tmp_path / "export", repository=repository)
    assert not (tmp_path / "export").exists()
