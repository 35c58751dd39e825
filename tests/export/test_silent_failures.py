"""What converters get wrong while they end with code 0: the proof catches each, whoever made the file."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.environments.environment import Environment
from gateway.export.cases import Arrays, Case
from gateway.export.jobs import Jobs, RouteFailed
from gateway.export.original import Original
from gateway.export.runners import Limits, prove
from gateway.export.source import Source
from gateway.repository.scan import ModelConfig
from runtimes.contract import Signature, TensorSpec
from tests.support.export_runs import environments

HERE = Path(__file__).parent
RANDOM = np.random.default_rng(5)


@pytest.fixture(scope="module")
def lies(export_environment: Callable[[str], Environment], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files made by the real tools, as they make them when nobody helps: see make/lies.py."""
    folder = tmp_path_factory.mktemp("lies")
    done = subprocess.run(
        [export_environment("export-tf").python, HERE / "make" / "lies.py", folder],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def told(artifact: Path, tmp_path: Path, inputs: Arrays, outputs: Arrays, batches: bool = False) -> str:
    """Why the artifact is no export of the model that answers these inputs with these outputs; "" if it is one."""

    def specs(arrays: Arrays) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name, "FP32", (-1, *array.shape[1:]) if batches else array.shape)
            for name, array in arrays.items()
        )

    source = Source(
        ModelConfig("model", "1", ""), "onnx", None, {}, "default",  # type: ignore[arg-type]
        Signature(specs(inputs), specs(outputs)), {name: array.shape for name, array in inputs.items()}, batches,
    )  # fmt: skip
    known: Any = environments()
    jobs = Jobs(tmp_path, print)
    original = Original(source, jobs)
    original.answered.append((Case("case", inputs), outputs))
    try:
        asyncio.run(prove("tflite", artifact, source, original, Limits(1e-4), known, jobs))
    except RouteFailed as error:
        return str(error)
    return ""


def given(lies: Path, name: str) -> tuple[Arrays, Arrays]:
    """The inputs of a lie, and what the original answers."""
    with np.load(lies / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    return {k[3:]: v for k, v in arrays.items() if k[:3] == "in_"}, {
        k[4:]: v for k, v in arrays.items() if k[:4] == "out_"
    }


def test_a_sound_file_passes(lies: Path, tmp_path: Path) -> None:
    assert told(lies / "sound.tflite", tmp_path, *given(lies, "sound")) == ""


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
    sentence = told(lies / f"{name}.tflite", tmp_path, *given(lies, name))
    assert reason in sentence, sentence


def test_operators_of_tensorflow_that_litert_lacks_are_caught(lies: Path, zoo: Path, tmp_path: Path) -> None:
    """SELECT_TF_OPS: it converts, and loads nowhere but beside TensorFlow's own delegate."""
    artifact = zoo / "negative" / "tflite-needs-ParseExampleV2.tflite"
    assert "ParseExampleV2" in told(artifact, tmp_path, *given(lies, "sound"))
