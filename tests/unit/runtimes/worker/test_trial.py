"""The trial at load: the inputs that it runs, the differences that it finds, and those that it must ignore."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from runtimes.contract import DATATYPES, InvalidInput, Model, Signature, TensorSpec, numpy_dtype
from runtimes.worker import trial
from runtimes.worker.compare import difference
from runtimes.worker.draws import ID_BOUNDS, KINDS, draw

Arrays = dict[str, np.ndarray]


class Computed(Model):
    """A model that computes `y` with a function, for at most `most` rows at a time if that is set."""

    def __init__(self, compute: Callable[..., Any], shape: tuple[int, ...] = (-1, 4), **datatypes: str) -> None:
        inputs = tuple(
            TensorSpec(name, datatype, (-1,) if name == "lengths" else shape)
            for name, datatype in (datatypes or {"x": "FP32"}).items()
        )
        self.signatures = {"s": Signature(inputs, (TensorSpec("y", "FP32", (-1, -1)),))}
        self.compute = compute
        self.rows: list[int] = []

    def infer(self, inputs: Arrays, outputs: Any, signature: str) -> Arrays:
        self.rows.append(len(next(iter(inputs.values()))))
        return {"y": self.compute(**inputs)}


WEIGHTS = np.random.RandomState(0).standard_normal((4, 3)).astype(np.float32)
TABLE = np.random.RandomState(1).standard_normal((50, 3)).astype(np.float32)


def quantized(x: np.ndarray) -> np.ndarray:
    """Use one scale for the whole input, as dynamic quantization does."""
    scale = max(float(np.abs(x).max()), 1e-9) / 127
    return np.round(x / scale) * scale @ WEIGHTS


def looked_up(ids: np.ndarray) -> np.ndarray:
    if ids.max() >= len(TABLE) or ids.min() < 0:
        raise InvalidInput("out of the table")
    return TABLE[ids].mean(axis=1)


def tagged(ids: np.ndarray) -> np.ndarray:
    rows = looked_up(ids)
    return rows - rows.max()


def padded(x: np.ndarray) -> np.ndarray:
    return np.array([[max(len(text) for text in x.ravel())]] * len(x), np.float32)


def sized(x: np.ndarray) -> np.ndarray:
    if len(x) > 8:
        raise RuntimeError("a buffer is too small")
    return x


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Computed(quantized), "trial"),
        (Computed(lambda x: np.argmax(quantized(x), axis=1)[:, None]), "trial"),
        (Computed(lambda x: 1 / (1 + np.exp(-quantized(x)))), "trial"),
        (Computed(lambda x: x[x.mean(axis=1) > 50]), "rows"),
        (Computed(lambda x: x[:0]), "rows"),
        (Computed(lambda x: x.squeeze()), "rows"),
        (Computed(lambda x: np.sort(x, axis=0)), "trial"),
        (Computed(lambda x: x + np.arange(len(x), dtype=np.float32)[:, None]), "trial"),
        (Computed(sized), "trial"),
        (Computed(lambda x, lengths: x[:, : lengths.max()], (-1, -1), x="FP32", lengths="INT64"), "trial"),
        (Computed(tagged, ids="INT64"), "trial"),
        (Computed(tagged, ids="INT32"), "trial"),
        (Computed(padded, (-1, 1), x="BYTES"), "trial"),
        (Computed(lambda x: x * np.random.standard_normal()), "trial"),
    ],
    ids=range(14),
)
def test_a_model_whose_rows_influence_each_other_is_found_out(model: Model, reason: str) -> None:
    assert trial.run(model, "s", 32)[0] == reason


@pytest.mark.parametrize(
    "model",
    [
        Computed(lambda x: x @ WEIGHTS),
        Computed(lambda x: np.sin(1000 * (x @ WEIGHTS))),
        Computed(lambda x: (x @ WEIGHTS).argmax(axis=1)[:, None]),
        Computed(lambda x: np.log(x)),
        Computed(lambda x: x / np.abs(x).max(axis=1, keepdims=True)),
        Computed(looked_up, ids="INT64"),
        Computed(lambda x: np.array([[len(text)] for text in x.ravel()], np.int64), (-1, 1), x="BYTES"),
        Computed(lambda x: x.astype(np.float16) * np.float16(2), x="FP16"),
        *[Computed(lambda x: x, x=datatype) for datatype in DATATYPES],
    ],
    ids=range(8 + len(DATATYPES)),
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_model_whose_rows_do_not_is_batched(model: Computed) -> None:
    # BLAS does this too: it uses different algorithms for different numbers of rows.
    exact = model.compute
    model.compute = lambda **inputs: _with_noise(exact(**inputs), len(next(iter(inputs.values()))))
    assert trial.run(model, "s", 32) == ("", "")
    assert max(model.rows) == 32


def _with_noise(array: np.ndarray, rows: int) -> np.ndarray:
    return (array * (1 + 1e-7 * (rows % 3))).astype(array.dtype) if array.dtype == np.float32 else array


def test_a_model_that_takes_nothing_invented_is_not_batched() -> None:
    def refuse(x: np.ndarray) -> np.ndarray:
        raise InvalidInput("not a picture")

    assert trial.run(Computed(refuse), "s", 32) == ("trial", "a trial run failed: not a picture")


def centered(x: np.ndarray, center: np.ndarray | None = None, scale: np.ndarray | None = None) -> np.ndarray:
    """Without a center, use that of all rows."""
    if center is None:
        center = x.mean(axis=0, keepdims=True)
    return (x - center) * (1 if scale is None else scale)


def optional(compute: Callable[..., Any], *names: str, needed: tuple[str, ...] = ("x",)) -> Computed:
    model = Computed(compute, **dict.fromkeys(needed + names, "FP32"))
    model.signatures = {"s": model.signatures["s"]._replace(optional=names)}
    return model


def test_rows_that_influence_each_other_without_an_optional_input_are_found_out() -> None:
    for names in (("center",), ("center", "scale"), ("scale", "center")):
        reason, text = trial.run(optional(centered, *names), "s", 32)
        assert reason == "trial"
        assert "without input" in text
        assert "'center'" in text


def test_optional_inputs_do_not_prevent_batching() -> None:
    def scaled(x: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
        return x if scale is None else x * scale

    def either(x: np.ndarray | None = None, z: np.ndarray | None = None) -> np.ndarray:
        if x is None and z is None:
            raise InvalidInput("give x or z")
        return np.float32(2) * (z if x is None else x)

    assert trial.run(optional(scaled, "scale"), "s", 32) == ("", "")
    assert trial.run(optional(either, "x", "z", needed=()), "s", 32) == ("", "")


def test_every_combination_of_optional_inputs_is_left_out() -> None:
    def only_b(x: np.ndarray, **given: np.ndarray) -> np.ndarray:
        return x.cumsum(axis=0) if list(given) == ["b"] else x

    reason, text = trial.run(optional(only_b, "a", "b", "c"), "s", 32)
    assert (reason, text.split(" without ")[1]) == ("trial", "inputs 'a', 'c'")


def test_more_optional_inputs_than_can_be_tried_prevent_batching() -> None:
    def same(x: np.ndarray, **given: np.ndarray) -> np.ndarray:
        return x

    assert trial.run(optional(same, *"abcd"), "s", 32) == ("", "")
    assert trial.run(optional(same, *"abcde"), "s", 32) == (
        "trial",
        "it has 5 optional inputs, and a trial run leaves out each combination of at most 4",
    )


def test_integers_stay_small_on_a_card() -> None:
    seen: list[int] = []

    def note(ids: np.ndarray) -> np.ndarray:
        seen.append(int(np.abs(ids).max()))
        return ids

    trial.run(Computed(note, ids="INT64"), "s", 8, on_card=True)
    assert max(seen) <= 2


def test_no_drawn_number_is_out_of_its_datatype() -> None:
    for datatype in DATATYPES:
        signature = Signature((TensorSpec("x", datatype, (-1, 3)),), ())
        for kind in KINDS:
            for largest in ID_BOUNDS:
                assert draw(signature, kind, 8, largest, {})["x"].shape == (1, 3)


@pytest.mark.parametrize("datatype", ["BF16", "FP8_E4M3FN", "FP8_E5M2"])
def test_coarse_datatypes_tolerate_their_rounding(datatype: str) -> None:
    dtype = numpy_dtype(datatype)
    eps = {"BF16": 2.0**-7, "FP8_E4M3FN": 2.0**-3, "FP8_E5M2": 2.0**-2}[datatype]
    right = np.array([[1.0, 2.0], [16.0, 24.0]])
    assert difference({"y": (right * (1 + eps)).astype(dtype)}, {"y": right.astype(dtype)}, 0) is None
    assert difference({"y": (right * 3).astype(dtype)}, {"y": right.astype(dtype)}, 0) is not None
    assert difference({"y": right.astype(dtype)}, {"y": right.astype(np.int8)}, 0) is not None


def test_a_large_row_hides_no_error_in_a_small_one() -> None:
    right = np.array([[1.0, 2.0], [1e4, 2e4]])
    wrong = right + np.array([[0.1, 0.0], [0.0, 0.0]])
    found = difference({"y": wrong}, {"y": right}, 0)
    assert found is not None
    assert (found.output, round(found.largest, 6), found.scale) == ("y", 0.1, 2.0)
    assert difference({"y": right * (1 + 1e-7)}, {"y": right}, 0) is None
    # Rows may be along another dimension.
    assert difference({"y": wrong.T}, {"y": right.T}, 1) is not None


@pytest.mark.parametrize("suspects", [(), ("y",)])
def test_the_order_of_rows_says_nothing_about_a_model_that_draws_lots(suspects: tuple[str, ...]) -> None:
    random = np.random.RandomState(0)
    model = Computed(lambda x: x + random.standard_normal(x.shape).astype(np.float32))
    said = trial.stray_output(model, "s", 4, 0, suspects)
    assert said == ("output 'y' does not count rows in dimension 0" if suspects else "")


def test_one_row_that_is_taken_shows_nothing() -> None:
    """The results for copies of one row are equal, however rows influence each other."""
    signature = Computed(quantized).signatures["s"]
    taken = [draw(signature, KINDS[0], free, ID_BOUNDS[0], {})["x"] for free in (8, 1, 64)]

    def picky(x: np.ndarray) -> np.ndarray:
        if not any(np.array_equal(row, one[0]) for row in x for one in taken):
            raise InvalidInput("not this one")
        return quantized(x)

    reason, text = trial.run(Computed(picky), "s", 32)
    assert (reason, text) == ("trial", "a trial run failed: not this one")
