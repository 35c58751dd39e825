"""Inputs for comparisons, generated or from the user."""

from pathlib import Path

import numpy as np
import pytest

from gateway.export.cases import Case, generated, moves, read, read_cases, write
from gateway.export.errors import CannotExport
from runtimes.contract import TensorSpec

IMAGE = TensorSpec("image", "FP32", (-1, 4))
TOKENS = TensorSpec("tokens", "INT64", (-1, 3))


def of(cases: list[Case], name: str) -> np.ndarray:
    """Return all values of an input, from every case."""
    return np.concatenate([case.inputs[name].ravel() for case in cases])


def test_generated_inputs_have_batches_and_names_of_their_own():
    cases = generated([IMAGE, TOKENS], {"image": (1, 4), "tokens": (1, 3)}, batches=True)
    names = [case.name for case in cases]
    assert len(names) == len(set(names))
    assert {case.inputs["image"].shape[0] for case in cases} == {1, 2, 7}
    assert all(case.inputs["image"].dtype == np.float32 and case.inputs["tokens"].dtype == np.int64 for case in cases)
    assert not np.array_equal(cases[0].inputs["image"], cases[4].inputs["image"])
    assert not cases[0].has_unusual_ids, "the first is what converters get as an example"


def test_floats_reach_what_real_ones_reach():
    cases = generated([TensorSpec("x", "FP32", (-1, 64))], {"x": (1, 64)}, batches=True)
    values = of(cases, "x")
    assert values.min() <= -100
    assert values.max() > 250
    assert np.any((values > -21) & (values < -19)), "where a sigmoid of float32 ends"
    assert {0.5, 1.5, 2.5, -0.5, -2.5} <= set(values.tolist()), "halves, which are rounded in two ways"
    assert np.any((np.abs(values) < 1e-5) & (values != 0))
    constant = {float(case.inputs["x"][0, 0]) for case in cases if np.ptp(case.inputs["x"]) == 0}
    assert {0, 1, -1, 100, -100} <= constant
    assert any(set(np.unique(case.inputs["x"])) == {0, 1} for case in cases)


@pytest.mark.parametrize(("datatype", "low", "high"), [("INT64", -500, 10000), ("INT32", -500, 10000)])
def test_whole_numbers_are_below_zero_too_and_large(datatype, low, high):
    values = of(generated([TensorSpec("x", datatype, (-1, 50))], {"x": (1, 50)}, True), "x")
    assert values.min() <= low
    assert values.max() >= high
    assert {-4, -3, -2, -1, 0, 1, 2, 3} <= set(values.tolist())


def test_whole_numbers_of_eight_bits_are_all_of_them():
    for datatype, low, high in (("INT8", -128, 127), ("UINT8", 0, 255)):
        values = of(generated([TensorSpec("x", datatype, (-1, 4000))], {"x": (1, 4000)}, True), "x")
        assert (values.min(), values.max()) == (low, high)


def test_a_number_without_a_shape_stays_small():
    """It may be a number of repetitions, or the size of a result."""
    values = of(generated([TensorSpec("count", "INT64", ())], {"count": ()}, False), "count")
    assert values.max() <= 100


def test_masks_are_ones_and_then_zeros():
    for case in generated([TensorSpec("attention_mask", "INT64", (-1, 6))], {"attention_mask": (1, 6)}, True):
        mask = case.inputs["attention_mask"]
        assert set(np.unique(mask)) <= {0, 1}
        assert np.all(mask[:, 0] == 1)
        assert np.all(np.diff(mask) <= 0)


def test_open_sizes_are_tried_at_others_too():
    spec = TensorSpec("image", "FP32", (-1, 3, -1, -1))
    shapes = {case.inputs["image"].shape for case in generated([spec], {"image": (1, 3, 8, 8)}, True)}
    assert {(1, 3, 8, 8), (1, 3, 9, 9), (1, 3, 16, 16)} <= shapes
    wide = {case.inputs["image"].shape for case in generated([spec], {"image": (1, 3, 224, 224)}, True)}
    assert (1, 3, 256, 256) in wide


def test_pictures_have_the_range_that_preprocess_says():
    spec = TensorSpec("image", "FP32", (-1, 64))
    (case,) = (c for c in generated([spec], {"image": (1, 64)}, True, (-2.0, 3.0)) if c.name.startswith("pixels"))
    assert -2 <= case.inputs["image"].min() < -1
    assert 2 < case.inputs["image"].max() <= 3


def test_a_model_without_inputs_has_one_case():
    assert [case.inputs for case in generated([], {}, False)] == [{}]


def test_inputs_move_by_one_unit_in_the_last_place():
    values = np.array([0.0, 1.0, -100.0], "f4")
    first, second = moves(Case("c", {"x": values, "ids": np.array([3])}))
    for other in (first, second):
        assert other.inputs["x"][0] == 0, "zeros are exact"
        assert np.all(other.inputs["x"][1:] != values[1:])
        np.testing.assert_allclose(other.inputs["x"], values, rtol=2.5e-7)
        assert other.inputs["ids"] == 3
    assert np.any(moves(Case("zeros", {"x": np.zeros(3, "f4")}))[0].inputs["x"] != 0)
    assert moves(Case("ids", {"ids": np.array([3])})) == []


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
    ("arrays", "message"),
    [
        ({"image": np.zeros((2, 5), "f4")}, r"'image' has shape \[2, 5\], the model expects \[-1, 4\]"),
        ({"image": np.zeros((0, 4), "f4")}, "which holds no values"),
        ({"image": np.zeros(4, "f4")}, r"'image' has shape \[4\]"),
        ({"image": np.zeros((1, 4), "c8")}, "'image' holds complex64, the model expects FP32"),
        ({"picture": np.zeros((1, 4)), "more": np.zeros(1)}, "must hold an array for each of the inputs image"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, message):
    with pytest.raises(CannotExport, match=message):
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
    """numpy.savez itself cannot store an array that is called "file"."""
    arrays = {"file": np.ones(3), "serving:in/a:0": np.zeros((), "i8"), "größe": np.array([True])}
    given = read(write(Case("case", arrays), tmp_path))
    assert given.keys() == arrays.keys()
    assert all(np.array_equal(given[name], array) for name, array in arrays.items())


def test_numbers_of_a_file_become_those_of_small_datatypes(tmp_path: Path) -> None:
    inputs = [TensorSpec("x", "BF16", (-1, 2)), TensorSpec("n", "INT4", (-1, 2))]
    np.savez(tmp_path / "data.npz", x=np.array([[0.5, 3.0]]), n=np.array([[-8, 7]]))
    (case,) = read_cases(tmp_path / "data.npz", inputs)
    assert {name: array.astype(np.float32).tolist() for name, array in case.inputs.items()} == {
        "x": [[0.5, 3.0]],
        "n": [[-8.0, 7.0]],
    }
    np.savez(tmp_path / "beyond.npz", x=np.array([[0.5, 3.0]]), n=np.array([[-9, 7]]))
    with pytest.raises(CannotExport, match="'n' holds values beyond those of INT4"):
        read_cases(tmp_path / "beyond.npz", inputs)
