"""Small DL4J networks, one per layer and option, compute what an independent reading of DL4J's source computes.

tests/unit/runtimes/dl4j/reference.py is that reading: plain numpy in float64, written from the Java sources without
knowledge of runtimes/dl4j. The outputs that DL4J stored with its models are tested in tests/e2e/test_dl4j_zoo.py.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from runtimes.dl4j import layers
from runtimes.dl4j.registry import LAYERS, PREPROCESSORS, VERTICES
from tests.support import ROOT
from tests.unit.runtimes.dl4j import normalizers, reference, reference_normalizers, zips
from tests.unit.runtimes.dl4j.networks import NETWORKS

assert layers  # importing it fills the registry
DTYPES = {"FLOAT": np.float32, "DOUBLE": np.float64, "HALF": np.float16}
# HALF has a mantissa of ten bits, and some networks add many products.
TOLERANCE = {"FLOAT": 1e-5, "DOUBLE": 1e-5, "HALF": 3e-2}
# The networks that are refused, with a part of the message. All others are served.
REFUSED = {
    "activation_softmax_3d": "softmax on activations of rank 3 is not covered",
    "activation_softmax_4d": "softmax on activations of rank 4 is not covered",
    "convolution_softmax": "softmax on activations of rank 4 is not covered",
    "convolution_nhwc_same_softmax": "softmax on activations of rank 4 is not covered",
    "batch_norm_dense_locked_gamma_alone": "DL4J's own implementations compute different results",
    "batch_norm_sequence_nwc": "batch normalization of activations of rank 3 is not covered",
    "batch_norm_sequence_batch_as_channels": "batch normalization of activations of rank 3 is not covered",
    "deconvolution_same_stride_beyond_kernel": "with a kernel smaller than the stride is not covered",
    "space_to_batch": "SpaceToBatchLayer is not covered",
    "space_to_batch_nhwc": "SpaceToBatchLayer is not covered",
    "simple_rnn_layer_norm": "its layer normalization (hasLayerNorm) is not covered",
    "mask_zero": "MaskZeroLayer is not covered",
    "mask_zero_simple_rnn_nwc": "MaskZeroLayer is not covered",
    "mask_zero_last_step": "MaskZeroLayer is not covered",
    "rnn_to_ff": "has one row per time step or stacked input",
    "rnn_to_ff_nwc": "has one row per time step or stacked input",
    "rnn_to_cnn": "has one row per time step or stacked input",
    "composable": "has one row per time step or stacked input",
    "stack": "has one row per time step or stacked input",
    "stack_unequal_sequences": "it stacks [3, 7] and [3, 5], which is not covered",
    "unstack": "its input is not a stack of that many",
    "graph_stacked_steps": "its rows are stacked or steps of steps, which DL4J would combine into different sequences",
    "rnn_to_ff_to_rnn_without_mini_batch": "it merges all rows, because the network was configured",
    "reshape_f": "reshaping in column-major order is not covered",
}
SERVED = sorted(set(NETWORKS) - set(REFUSED))

LOW, HIGH = (-1.0, 0.5, -2.0, 0.0, 1.0), (1.0, 1.5, 3.0, 2.0, 4.0)
LABELS = ((0.5,) * 3, (2.0,) * 3)
Arrays = list[np.ndarray]


class Normalized(NamedTuple):
    """A network with a normalizer.bin, and what the reference does before and after the network."""

    network: str
    file: bytes
    before: Callable[[Arrays], Arrays]
    after: Callable[[Arrays], Arrays] = lambda outputs: outputs


def narrowed(x: np.ndarray) -> np.ndarray:
    return reference_normalizers.min_max(x, LOW[: x.shape[1]], HIGH[: x.shape[1]], -2.0, 2.0)


def standardized(x: np.ndarray) -> np.ndarray:
    return reference_normalizers.standardize(x, LOW[: x.shape[1]], HIGH[: x.shape[1]])


def undone(x: np.ndarray) -> np.ndarray:
    return x * LABELS[1][0] + LABELS[0][0]


NORMALIZED = {
    "rows": Normalized("dense_output", normalizers.standardize((LOW, HIGH)), lambda given: [standardized(given[0])]),
    "labels": Normalized(
        "dense_output",
        normalizers.standardize((LOW, HIGH), LABELS),
        lambda given: [standardized(given[0])],
        lambda given: [undone(given[0])],
    ),
    "sequences": Normalized(
        "lstm", normalizers.min_max((LOW[:3], HIGH[:3]), target=(-2.0, 2.0)), lambda given: [narrowed(given[0])]
    ),
    "images": Normalized(
        "convolution",
        normalizers.image(-1.0, 1.0, 4.0),
        lambda given: [reference_normalizers.image(given[0], -1.0, 1.0, 4.0)],
    ),
    "many": Normalized(
        "merge_rows",
        normalizers.multi_min_max([(LOW, HIGH), (LOW[:3], HIGH[:3])], target=(-2.0, 2.0)),
        lambda given: [narrowed(each) for each in given],
    ),
    "many_standardized": Normalized(
        "merge_rows",
        normalizers.multi_standardize([(LOW, HIGH), (LOW[:3], HIGH[:3])]),
        lambda given: [standardized(each) for each in given],
    ),
}


class Ran(NamedTuple):
    """The folders with the outputs of tests/contract/dl4j/run.py, by datatype."""

    folders: dict[str, Path]

    def outputs(self, dtype: str, name: str) -> list[np.ndarray]:
        assert not self.said(name, dtype)
        with np.load(self.folders[dtype] / f"{name}.out.npz") as file:
            return [file[key] for key in file.files]

    def said(self, name: str, dtype: str = "FLOAT") -> str:
        file = self.folders[dtype] / f"{name}.txt"
        return file.read_text() if file.exists() else ""


@pytest.fixture(scope="module")
def ran(runtime_environment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Run every network, with one process per datatype."""
    folders = {}
    for dtype, kind in DTYPES.items():
        folder = folders[dtype] = tmp_path_factory.mktemp(dtype.lower())
        cases = {}
        for name, made in NETWORKS.items():
            configuration = {**made.configuration, "dataType": dtype}
            zips.write(folder / f"{name}.zip", configuration, made.coefficients(), dtype=dtype)
            np.savez(folder / f"{name}.in.npz", **{key: array.astype(kind) for key, array in made.samples().items()})
            # The reference reads Convolution1DLayer as M1 does.
            cases[name] = {"inputs": declared(name), "parameters": {"convolution_1d": "M1"}}
        for name, case in NORMALIZED.items():
            made, stem = NETWORKS[case.network], f"normalized_{name}"
            configuration = {**made.configuration, "dataType": dtype}
            zips.write(folder / f"{stem}.zip", configuration, made.coefficients(), dtype=dtype, normalizer=case.file)
            shutil.copy(folder / f"{case.network}.in.npz", folder / f"{stem}.in.npz")
            cases[stem] = {"inputs": declared(case.network), "parameters": {}}
        run(runtime_environment("dl4j").python, folder, cases)
    return Ran(folders)


def run(python: Path, folder: Path, cases: dict[str, Any]) -> None:
    (folder / "cases.json").write_text(json.dumps(cases))
    script = Path(__file__).parent / "dl4j" / "run.py"
    done = subprocess.run(
        [python, script, folder], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


def declared(name: str) -> dict[str, list[int]]:
    """Return the shapes for [[inputs]], with a dynamic batch."""
    made = NETWORKS[name]
    names = made.configuration.get("networkInputs", ["in"])
    return {name: [-1, *shape[1:]] for name, shape in zip(names, made.inputs.values(), strict=True)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SERVED)
def test_it_computes_what_the_source_says(ran: Ran, name: str, dtype: str) -> None:
    for found, wanted in zip(ran.outputs(dtype, name), NETWORKS[name].outputs(), strict=True):
        assert found.shape == wanted.shape
        assert found.dtype == DTYPES[dtype]
        scale = max(1.0, float(np.abs(wanted).max()))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NORMALIZED)
def test_normalizers_are_applied(ran: Ran, name: str, dtype: str) -> None:
    case = NORMALIZED[name]
    made = NETWORKS[case.network]
    given = case.before([array.astype(np.float64) for array in made.samples().values()])
    wanted = case.after(reference.forward(made.configuration, made.coefficients(), given))
    for found, right in zip(ran.outputs(dtype, f"normalized_{name}"), wanted, strict=True):
        scale = max(1.0, float(np.abs(right).max()))
        np.testing.assert_allclose(found, right, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("name", ["lstm_dense_lstm", "rnn_to_cnn_to_rnn", "time_distributed"])
def test_sequences_without_steps_do_not_end_the_process(
    runtime_environment: Callable[[str], Any], tmp_path: Path, name: str
) -> None:
    """With no time steps, there would be no rows, on which ONNX Runtime's LSTM aborts.

    A served model refuses such a request earlier, but the exported file has no such check.
    """
    made = NETWORKS[name]
    rows, features, _ = next(iter(made.inputs.values()))
    zips.write(tmp_path / "empty.zip", made.configuration, made.coefficients())
    np.savez(tmp_path / "empty.in.npz", given=np.zeros((rows, features, 0), np.float32))
    case = {"inputs": {"in": [-1, features, -1]}, "parameters": {}, "exported": True}
    run(runtime_environment("dl4j").python, tmp_path, {"empty": case})
    with np.load(tmp_path / "empty.out.npz") as file:
        assert file["out_0"].shape[0] == rows
        assert file["out_0"].size == 0


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_covered_is_refused_by_name(ran: Ran, name: str) -> None:
    assert REFUSED[name] in ran.said(name)


def test_what_is_called_confirmed_was_computed_here() -> None:
    """Each layer with the evidence "computed" is in one of the networks."""
    seen = {kind for name in SERVED for kind in kinds(NETWORKS[name].configuration)}
    for table in (LAYERS, VERTICES, PREPROCESSORS):
        assert sorted(kind for kind, entry in table.items() if entry.evidence == "computed" and kind not in seen) == []


def kinds(value: Any) -> Iterator[str]:
    """Return the classes in a configuration, without their packages."""
    if isinstance(value, dict):
        if isinstance(value.get("@class"), str):
            yield value["@class"].rsplit(".", 1)[-1]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from kinds(each)


def test_the_reference_is_not_the_runtime() -> None:
    """They share no code: importing one does not import the other."""
    networks = "tests.unit.runtimes.dl4j.networks"
    code = f"import sys, {networks}; sys.exit(any(name.startswith('runtimes') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0
