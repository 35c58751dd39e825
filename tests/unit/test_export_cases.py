"""Inputs to compare on: generated ones, and the user's."""

from pathlib import Path

import numpy as np
import pytest

from gateway.export.cases import Case, generated, read, read_cases, write
from gateway.export.errors import CannotExport
from runtimes.contract import TensorSpec

IMAGE = TensorSpec("image", "FP32", (-1, 4))
TOKENS = TensorSpec("tokens", "INT64", (-1, 3))


def test_generated_inputs_have_seeds_batches_and_edges():
    cases = generated([IMAGE, TOKENS], {"image": (1, 4), "tokens": (1, 3)}, batches=True)
    names = [case.name for case in cases]
    assert len(names) == len(set(names))
    assert {case.inputs["image"].shape[0] for case in cases} == {1, 2, 5}
    assert {"zeros", "large", "tiny"} <= set(names)
    assert all(case.inputs["image"].dtype == np.float32 and case.inputs["tokens"].dtype == np.int64 for case in cases)
    assert all(case.inputs["tokens"].min() >= 0 and case.inputs["tokens"].max() < 8 for case in cases)
    assert not np.array_equal(cases[0].inputs["image"], cases[1].inputs["image"])


def test_they_are_the_same_each_time():
    first, second = (generated([IMAGE], {"image": (1, 4)}, True) for _ in range(2))
    assert all(np.array_equal(a.inputs["image"], b.inputs["image"]) for a, b in zip(first, second, strict=True))


def test_a_fixed_batch_stays_as_it_is():
    cases = generated([TensorSpec("x", "FP32", (3, 4))], {"x": (3, 4)}, batches=False)
    assert {case.inputs["x"].shape for case in cases} == {(3, 4)}


def saved(tmp_path: Path, **arrays: np.ndarray) -> Path:
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


def test_one_run_and_several(tmp_path):
    (case,) = read_cases(saved(tmp_path, image=np.ones((7, 4))), [IMAGE])
    assert (case.inputs["image"].shape, case.inputs["image"].dtype) == ((7, 4), np.float32)
    data = {"image.0": np.ones((1, 4), "f4"), "image.1": np.ones((2, 4), "f4")}
    assert [each.inputs["image"].shape[0] for each in read_cases(saved(tmp_path, **data), [IMAGE])] == [1, 2]


def test_the_only_array_is_that_of_the_only_input(tmp_path):
    assert read_cases(saved(tmp_path, arr_0=np.ones((1, 4), "f4")), [IMAGE])[0].inputs["image"].shape == (1, 4)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"image": np.zeros((2, 5), "f4")}, r"'image' has shape \[2, 5\], the model wants \[-1, 4\]"),
        ({"image": np.zeros((0, 4), "f4")}, "in which there is no value"),
        ({"image": np.zeros(4, "f4")}, r"'image' has shape \[4\]"),
        ({"image": np.zeros((1, 4), "c8")}, "'image' holds complex64, the model wants FP32"),
        ({"picture": np.zeros((1, 4)), "more": np.zeros(1)}, "must hold an array for each of the inputs image"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, arrays, told):
    with pytest.raises(CannotExport, match=told):
        read_cases(saved(tmp_path, **arrays), [IMAGE])


def test_files_that_are_none(tmp_path):
    with pytest.raises(CannotExport, match="cannot be read: No such file"):
        read_cases(tmp_path / "none.npz", [IMAGE])
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(CannotExport, match="is not an npz"):
        read_cases(tmp_path / "text.npz", [IMAGE])
    np.savez(tmp_path / "objects.npz", image=np.array([object()], dtype=object))
    with pytest.raises(CannotExport, match="is not an npz"):
        read_cases(tmp_path / "objects.npz", [IMAGE])


def test_any_name_survives_a_file(tmp_path):
    """numpy.savez itself has no room for an array that is called file."""
    arrays = {"file": np.ones(3), "serving:in/a:0": np.zeros((), "i8"), "größe": np.array([True])}
    given = read(write(Case("case", arrays), tmp_path))
    assert given.keys() == arrays.keys()
    assert all(np.array_equal(given[name], array) for name, array in arrays.items())
