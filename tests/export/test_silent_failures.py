"""Wrong files that converters write although they exit with code 0: the verification catches each of them."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gateway.environments.environment import Environment
from gateway.export.cases import Arrays, Case
from gateway.export.jobs import Jobs, RouteFailed
from gateway.export.original import Original
from gateway.export.source import Source
from gateway.export.verdict import Limits
from gateway.export.verification import verify
from gateway.export.workspace import Workspace
from gateway.repository.model_config import ModelConfig
from runtimes.contract import Signature, TensorSpec
from tests.support.export_runs import environments

HERE = Path(__file__).parent
RANDOM = np.random.default_rng(5)


@pytest.fixture(scope="module")
def lies(export_environment: Callable[[str], Environment], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that the real tools write if nothing corrects them: see make/lies.py."""
    folder = tmp_path_factory.mktemp("lies")
    done = subprocess.run(
        [export_environment("export-tf").python, HERE / "make" / "lies.py", folder],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def problem(artifact: Path, tmp_path: Path, inputs: Arrays, outputs: Arrays, batches: bool = False) -> str:
    """Return why the artifact is not an export of a model with these outputs for these inputs, or "" if it is one."""

    def specs(arrays: Arrays) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name, "FP32", (-1, *array.shape[1:]) if batches else array.shape)
            for name, array in arrays.items()
        )

    source = Source(
        ModelConfig("model", "1", ""), "onnx", None, {}, "default",  # type: ignore[arg-type]
        Signature(specs(inputs), specs(outputs)), {name: array.shape for name, array in inputs.items()}, batches,
    )  # fmt: skip
    jobs = Jobs(tmp_path, print)
    original = Original(source, jobs)
    original.answered.append((Case("case", inputs), outputs))
    try:
        asyncio.run(verify("tflite", artifact, original, Limits(1e-4), Workspace(environments(), jobs)))
    except RouteFailed as error:
        return str(error)
    return ""


def given(lies: Path, name: str) -> tuple[Arrays, Arrays]:
    """Return the inputs for a wrong file, and the original's outputs."""
    with np.load(lies / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    return {k[3:]: v for k, v in arrays.items() if k[:3] == "in_"}, {
        k[4:]: v for k, v in arrays.items() if k[:4] == "out_"
    }


def test_a_sound_file_passes(lies: Path, tmp_path: Path) -> None:
    assert problem(lies / "sound.tflite", tmp_path, *given(lies, "sound")) == ""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("float16", "input 'x' is FP16"),
        ("layout", "[1, 8, 12, 5]"),
        ("custom", "the custom operator 'ONNX_"),
        ("swapped", "of its largest value"),
        ("order", "its outputs are"),
        ("broken", "LiteRT cannot load this model"),
        ("empty", "the file is empty"),
    ],
)
def test_it_is_caught(lies: Path, name: str, reason: str, tmp_path: Path) -> None:
    sentence = problem(lies / f"{name}.tflite", tmp_path, *given(lies, name))
    assert reason in sentence, sentence


def test_operators_of_tensorflow_that_litert_lacks_are_caught(lies: Path, zoo: Path, tmp_path: Path) -> None:
    """With SELECT_TF_OPS the conversion succeeds, but the file loads only with TensorFlow's own delegate."""
    artifact = zoo / "negative" / "tflite-needs-ParseExampleV2.tflite"
    assert "ParseExampleV2" in problem(artifact, tmp_path, *given(lies, "sound"))
