"""Both runtimes for CNTK's files, cntk and cntk_onnx, compute the outputs that CNTK 2.7 stored.

`CNTK_CHANCE=3000 pytest …` compares that many random models, different ones each time.
"""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.contract.test_contract import run_suite
from tests.support import ROOT

HERE = Path(__file__).parent
MODELS = ROOT / "tests" / "unit" / "runtimes" / "cntk_onnx" / "models"
NAMES = sorted(path.stem for path in MODELS.glob("*.npz"))
RUNTIMES = ("cntk", "cntk_onnx")
TOLERANCE = {"float16": 2e-3, "float32": 1e-5, "float64": 1e-6}
Computed = Callable[[str, Path], Path]


@pytest.fixture(scope="module")
def computed(runtime_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Computed:
    """Run a runtime on a folder of models with inputs, once each, and return the folder of its answers."""

    def compute(runtime: str, folder: Path) -> Path:
        answers = tmp_path_factory.mktemp(runtime)
        command = [runtime_python(runtime), "-I", HERE / "cntk_script.py", runtime, folder, answers]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-2000:]
        return answers

    return cache(compute)


def all_equal(answer: Path, file: Path, scale: float = 0) -> None:
    with np.load(file) as stored, np.load(answer) as found:
        expected = {key[4:]: stored[key] for key in stored.files if key.startswith("out.")}
        assert sorted(found.files) == sorted(expected)
        for output, array in expected.items():
            equal(found[output], array, f"{file.stem}: {output}", scale)


def equal(found: np.ndarray, expected: np.ndarray, name: str, scale: float = 0) -> None:
    """Compare with a tolerance relative to the largest expected value, or to `scale` if that is larger."""
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype), name
    allowed = TOLERANCE[expected.dtype.name] * float(np.abs(expected).max(initial=scale))
    np.testing.assert_allclose(found, expected, rtol=0, atol=allowed, err_msg=name)


@pytest.mark.parametrize("runtime", [pytest.param(each, marks=pytest.mark.runtime(each)) for each in RUNTIMES])
@pytest.mark.parametrize("name", NAMES)
def test_it_computes_what_cntk_once_did(name: str, runtime: str, computed: Computed) -> None:
    all_equal(computed(runtime, MODELS) / f"{name}.npz", MODELS / f"{name}.npz")


@pytest.fixture(scope="module")
def mnist_conv(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zoo's model from another project, with its three images and a hundred random ones."""
    folder, source = tmp_path_factory.mktemp("mnist_conv"), zoo / "cntk" / "mnist_conv"
    shutil.copy(source / "mnist_conv.cmf", folder / "mnist_conv.model")
    random = np.random.default_rng(0).uniform(0, 255, (100, 1, 28, 28)).astype(np.float32)
    with np.load(source / "inputs.npz") as stored:
        images = np.concatenate([np.stack([stored[name] for name in ("sample_4", "sample_9", "rand")]), random])
    np.savez(folder / "mnist_conv.npz", **{"in.input": images})
    return folder


@pytest.mark.runtime("cntk")
@pytest.mark.runtime("cntk_onnx")
def test_a_real_model_is_computed_alike(mnist_conv: Path, computed: Computed) -> None:
    ours, its = (np.load(computed(each, mnist_conv) / "mnist_conv.npz") for each in ("cntk_onnx", "cntk"))
    assert ours.files == its.files
    assert ours.files
    for output in its.files:
        assert len(its[output]) == 103
        equal(ours[output], its[output], output)


@pytest.mark.runtime("cntk")
@pytest.mark.runtime("cntk_onnx")
@pytest.mark.timeout(0)
def test_models_that_chance_makes_are_computed_alike_or_refused(
    runtime_python: Callable[[str], Path], computed: Computed, tmp_path: Path
) -> None:
    asked = int(os.environ.get("CNTK_CHANCE", "0"))
    first, count = (secrets.randbelow(1 << 31), asked) if asked else (0, 200)
    command = [runtime_python("cntk"), HERE / "cntk_chance.py", tmp_path, str(first), str(count)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = computed("cntk_onnx", tmp_path)
    refused = {file.stem: file.read_text() for file in answers.glob("*.txt")}
    made = sorted(file for file in tmp_path.glob("*.npz") if file.stem not in refused)
    differ = []
    for file in made:
        try:
            all_equal(answers / file.name, file, scale=0.1)  # a single normalized value is only rounding
        except AssertionError as error:
            differ.append(str(error))
    assert not differ, "\n".join(differ)
    assert len(made) > count // 2
    assert len(made) > 4 * len(refused), refused
    print(f"{len(made)} computed alike, {len(refused)} refused")


@pytest.mark.parametrize("runtime", [pytest.param(each, marks=pytest.mark.runtime(each)) for each in RUNTIMES])
def test_sequences_of_one_axis_are_of_one_length(
    runtime: str, runtime_python: Callable[[str], Path], tmp_path: Path
) -> None:
    """ONNX Runtime would broadcast an input that has a single step or a single row."""

    def given(rows: int, steps: int) -> list[object]:
        return np.ones((rows, steps, 3)).tolist()

    wrong = [{"x": given(2, 5), "y": given(*other)} for other in ((2, 1), (1, 5), (2, 4), (3, 5))]
    wrong.append({"x": given(2, 0), "y": given(2, 0)})
    case = tmp_path / "case.json"
    case.write_text(json.dumps({"bad": wrong}))
    run_suite(runtime_python(runtime), runtime, MODELS / "sequences_of_one_length.model", case)


@pytest.mark.runtime("cntk")
def test_what_cntk_says_is_no_lack_of_memory_by_its_call_stack(
    runtime_python: Callable[[str], Path], tmp_path: Path
) -> None:
    """CNTK's call stack contains function names with "alloc", but the error is that no step is selected."""
    case = tmp_path / "case.json"
    case.write_text(json.dumps({"bad": [{"x": [[[-1.0, -1.0, -1.0]] * 5]}]}))
    run_suite(runtime_python("cntk"), "cntk", MODELS / "refused_by_values.model", case)


@pytest.mark.parametrize("runtime", [pytest.param(each, marks=pytest.mark.runtime(each)) for each in RUNTIMES])
def test_what_is_in_no_row_of_a_table_is_not_looked_up(
    runtime: str, runtime_python: Callable[[str], Path], tmp_path: Path
) -> None:
    """CNTK would return adjacent memory, or crash."""
    case, good = tmp_path / "case.json", {"direct": [0.0, 1.0, 3.0], "computed": [0.0, 1.0]}
    wrong = [good | {name: [number, *good[name][1:]]} for name in good for number in (-1.0, 4.0, 1e10)]
    bad = [{name: [row] for name, row in each.items()} for each in wrong]
    given = {name: [row] for name, row in good.items()}
    case.write_text(json.dumps({"values": given, "bad": bad}))
    run_suite(runtime_python(runtime), runtime, MODELS / "lookups.model", case)


@pytest.mark.runtime("cntk")
@pytest.mark.parametrize("name", ["refused_lookup_in_a_block", "refused_dilated"])
def test_what_cntk_cannot_be_asked_safely_is_refused(
    name: str, runtime_python: Callable[[str], Path], tmp_path: Path
) -> None:
    case = tmp_path / "case.json"
    case.write_text(json.dumps({"load_error": True}))
    run_suite(runtime_python("cntk"), "cntk", MODELS / f"{name}.model", case)
