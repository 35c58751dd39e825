"""Models that CNTK 2.7 wrote (models/, made by make_models.py), as ONNX models, compute what CNTK computed."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from runtimes.cntk_onnx.translate import translate
from runtimes.contract import LoadError

MODELS = Path(__file__).parent / "models"
NAMES = sorted(path.stem for path in MODELS.glob("*.npz"))
TOLERANCE = {"float16": 2e-3, "float32": 1e-6, "float64": 1e-6}
# onnx's reference implementation, used here, supports Scan only over the first axis, and has no MaxRoiPool.
# tests/contract computes these with ONNX Runtime.
LOOPS = [
    *("float64_lstm", "fold", "gru", "loop_from_an_input", "loop_of_sums", "loop_of_two_steps", "lstm", "rnn"),
    *(
        "axis_called_as_the_batch",
        "criterion_sparse",
        "regions",
        "rnn_stack",
        "lstm_both_ways",
        "lstm_peepholes",
        "lstm_relu",
        "lstm_stabilized",
        "tagger",
    ),
]


def stored(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return CNTK's inputs and outputs, in CNTK's order."""
    with np.load(MODELS / f"{name}.npz") as file:
        inputs = {key[3:]: file[key] for key in file.files if key.startswith("in.")}
        return inputs, {key[4:]: file[key] for key in file.files if key.startswith("out.")}


def model(name: str) -> onnx.ModelProto:
    return translate((MODELS / f"{name}.model").read_bytes()).model


def test_all_are_here() -> None:
    assert len(NAMES) > 40
    others = sorted(path.stem for path in MODELS.glob("*.model") if path.stem not in NAMES)
    assert others == sorted(f"refused_{kind}" for kind in [*REFUSED, *REFUSED_BY_CNTK, *REFUSED_IN_PART])


@pytest.mark.parametrize("name", NAMES)
def test_it_is_sound_and_has_cntks_names_in_cntks_order(name: str) -> None:
    inputs, outputs = stored(name)
    made = model(name)
    onnx.checker.check_model(made, full_check=True)
    assert [value.name for value in made.graph.input] == list(inputs)
    assert [value.name for value in made.graph.output] == list(outputs)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LOOPS])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, about unused logarithms of 0
def test_it_computes_what_cntk_computes(name: str) -> None:
    inputs, outputs = stored(name)
    found = ReferenceEvaluator(model(name)).run(None, inputs)
    for (name, expected), array in zip(outputs.items(), found, strict=True):
        assert array.shape == expected.shape, name
        assert array.dtype == expected.dtype, name
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(array, expected, rtol=0, atol=TOLERANCE[expected.dtype.name] * scale, err_msg=name)


@pytest.mark.parametrize("name", ["powers", "unary_near_its_ends"])
def test_no_infinity_comes_of_zeros_on_the_way(name: str) -> None:
    """Some converters turn Where into products, and infinity times 0 is NaN."""
    inputs = {key: np.zeros_like(array) for key, array in stored(name)[0].items()}
    found = ReferenceEvaluator(model(name)).run(None, inputs, intermediate=True)
    endless = [key for key, array in found.items() if array is not None and not np.isfinite(array).all()]
    assert endless == []


def shapes(values: list[onnx.ValueInfoProto]) -> dict[str, list[int | str]]:
    """Return the size of each dimension, or its name if it is dynamic."""
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values
    }


def test_the_batch_and_the_sequence_come_first() -> None:
    made = model("loop_from_an_input")
    assert shapes(made.graph.input) == {"h0": ["N", 4], "x": ["N", "defaultDynamicAxis", 3]}
    assert [*shapes(made.graph.output).values()] == [["N", "defaultDynamicAxis", 4]]
    assert [*shapes(model("fold").graph.output).values()] == [["N", 2]]


def test_each_open_size_has_a_name_of_its_own() -> None:
    """Dimensions of the same name must have the same size, so no other dimension may be called like the batch."""
    made = model("axis_called_as_the_batch")
    assert shapes(made.graph.input) == {"x": ["N", "N_1", 3]}
    assert [*shapes(made.graph.output).values()] == [["N", 3], ["N", "N_1", 2]]


def test_free_sizes_are_open() -> None:
    assert shapes(model("free_size").graph.input) == {"i": ["N", 2, "i_1", "i_2"]}


def test_a_loop_is_one_scan() -> None:
    nodes = [node.op_type for node in model("lstm_both_ways").graph.node]
    assert nodes.count("Scan") == 2
    # What does not depend on the previous step is computed for all steps together.
    assert nodes.count("MatMul") == 2


REFUSED = {
    "unpooling": ["Unpooling, 'up' (uid Unpooling", "not covered"],
    "random": ["RandomDistribution, 'noise' (uid ", "not covered"],
    "sparse": ["input 'pairs' is sparse with 2 static axes"],
    "several": ["Unpooling, 'up' (uid Unpooling", "RandomDistribution, 'noise' (uid "],
    "over_the_batch": ["in a block MultiAxisReduce", "one value from all rows of a batch (along 'defaultBatchAxis')"],
    "by_values": ["Where, without a name", "it selects positions by values"],
    "beyond_the_end": ["Pooling, without a name", "the center of its last window is outside its input"],
    "free_size_rounded_up": ["Pooling, without a name", "its last window depends on a dynamic size"],
    "both_ways": ["it is in a loop that goes both forwards and backwards"],
}

REFUSED_BY_CNTK = ["dilated", "lookup_in_a_block"]
REFUSED_IN_PART = ["in_part"]


@pytest.mark.parametrize("kind", REFUSED_BY_CNTK)
def test_what_only_cntk_refuses_is_translated(kind: str) -> None:
    onnx.checker.check_model(model(f"refused_{kind}"), full_check=True)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_covered_is_named(kind: str) -> None:
    with pytest.raises(LoadError) as caught:
        model(f"refused_{kind}")
    for part in REFUSED[kind]:
        assert part in str(caught.value)
    # CNTK refuses sparse inputs as well, so the message does not recommend it.
    assert ("by CNTK itself (the runtime cntk)" in str(caught.value)) == (kind != "sparse")


def test_outputs_that_are_not_covered_leave_the_others() -> None:
    found = translate((MODELS / "refused_in_part.model").read_bytes())
    assert [value.name for value in found.model.graph.input] == ["i"]
    assert [value.name for value in found.model.graph.output] == ["c"]
    assert list(found.refused) == ["up"]
    assert found.refused["up"].startswith("Unpooling, 'up' (uid Unpooling")
    assert found.needs == {"c": {"i"}}


def test_a_loss_needs_the_labels_and_the_prediction_does_not() -> None:
    found = translate((MODELS / "criterion.model").read_bytes())
    (errors,) = set(found.needs) - {"z", "loss"}
    assert found.needs == {"z": {"v"}, "loss": {"v", "labels"}, errors: {"v", "labels"}}
    assert list(found.refused) == ["mean"]
    assert "all rows of a batch" in found.refused["mean"]
    assert [node.op_type for node in found.model.graph.node].count("ReduceMean") == 0
