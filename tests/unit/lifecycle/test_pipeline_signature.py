"""Steps whose signatures fit together, and what is said of those that do not."""

from dataclasses import replace

import pytest

from gateway.domain.pipeline import Condition, Step
from gateway.domain.types import ModelStatus
from gateway.lifecycle.pipeline_signature import Mismatch, PipelineInterface, pipeline_interface
from gateway.repository.model_toml import ModelToml
from runtimes.contract import Signature, TensorSpec

A = Step("a", "", {"x": "in"}, {"y": "mid"})
B = Step("b", "", {"x": "mid"}, {"y": "out"})


def spec(name: str, datatype: str = "FP32", *shape: int) -> TensorSpec:
    return TensorSpec(name, datatype, shape or None)


def model(
    inputs: TensorSpec | list[TensorSpec],
    outputs: TensorSpec | list[TensorSpec],
    rows: int = 0,
    optional: tuple[str, ...] = (),
    **more: object,
) -> ModelStatus:
    given, made = (tuple(each) if isinstance(each, list) else (each,) for each in (inputs, outputs))
    signature = Signature(given, made, {}, optional)
    return ModelStatus("m", "1", "READY", admits=True, signatures={"default": signature}, max_batch_size=rows, **more)  # type: ignore[arg-type]


def interface(first: ModelStatus, second: ModelStatus, **declared: object) -> PipelineInterface:
    return pipeline_interface([A, B], [first, second], ModelToml.model_validate(declared), {})


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (spec("y", "FP32", 2, 3), spec("x", "FP32", 2, 3)),
        (spec("y", "FP32", -1, 3), spec("x", "FP32", 2, -1)),
        (spec("y", "", 2), spec("x", "FP32")),
        (spec("y", ""), spec("x", "BYTES", 1)),
    ],
)
def test_what_fits(made: TensorSpec, wanted: TensorSpec) -> None:
    found = interface(model(spec("x", "INT8", 4), made), model(wanted, spec("y", "BOOL", 1)))
    assert found.signature == Signature((spec("in", "INT8", 4),), (spec("out", "BOOL", 1),))
    assert found.max_batch_size == 0


@pytest.mark.parametrize(
    ("made", "wanted", "said"),
    [
        (spec("y"), spec("x", "INT8"), "input 'x' of step 'b' is INT8, but output 'y' of step 'a' is FP32; make them"),
        (
            spec("y", "FP32", 2, 3),
            spec("x", "FP32", 2, 4),
            "input 'x' of step 'b' has shape [2, 4], but output 'y' of step 'a' has shape [2, 3]; make them fit",
        ),
        (spec("y", "FP32", 2), spec("x", "FP32", -1, 2), "has shape [-1, 2] (-1 is any size), but output 'y'"),
        (spec("z"), spec("x"), "its step 'a' has no output 'y'; it has 'z'"),
        (spec("y"), spec("z"), "its step 'b' has no input 'x'; it has 'z'"),
        (spec("y"), [spec("x"), spec("z")], "its step 'b' needs the input 'z', to which no tensor is mapped"),
    ],
)
def test_what_does_not_fit_is_one_sentence(made: TensorSpec, wanted: TensorSpec | list[TensorSpec], said: str) -> None:
    with pytest.raises(Mismatch) as caught:
        interface(model(spec("x"), made), model(wanted, spec("y")))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_uses_of_an_input_must_fit_each_other() -> None:
    steps = [Step(name, "", {"x": "in"}, {"y": name}) for name in "abc"]
    models = [model(spec("x", "", -1, size), spec("y")) for size in (-1, 4, 5)]
    said = "input 'x' of step 'c' has shape [-1, 5] (-1 is any size), but input 'x' of step 'b' has shape [-1, 4]"
    with pytest.raises(Mismatch) as caught:
        pipeline_interface(steps, models, ModelToml(), {})
    assert said in str(caught.value)
    models = [model(spec("x", datatype), spec("y")) for datatype in ("", "FP32", "INT8")]
    with pytest.raises(Mismatch, match="input 'x' of step 'c' is INT8, but input 'x' of step 'b' is FP32"):
        pipeline_interface(steps, models, ModelToml(), {})


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (
            {"inputs": [{"name": "in", "datatype": "INT8"}]},
            "input 'x' of step 'a' is FP32, but the input 'in' of the pipeline is INT8",
        ),
        (
            {"outputs": [{"name": "out", "datatype": "FP32", "shape": [5]}]},
            "the output 'out' of the pipeline has shape [5], but output 'y' of step 'b' has shape [4]",
        ),
    ],
)
def test_what_is_declared_is_checked_as_well(declared: dict[str, object], said: str) -> None:
    step = model(spec("x", "FP32", 4), spec("y", "FP32", 4))
    with pytest.raises(Mismatch) as caught:
        interface(step, step, **declared)
    assert said in str(caught.value)


def test_a_refused_output_cannot_be_used() -> None:
    refused = Signature((spec("x"),), (spec("y"),), {"y": "it is a string of an unknown encoding"})
    first = ModelStatus("m", "1", "READY", signatures={"default": refused})
    with pytest.raises(Mismatch, match="output 'y' of its step 'a' cannot be served: it is a string"):
        interface(first, model(spec("x"), spec("y")))


def test_declared_values_complete_those_of_the_steps() -> None:
    step = model(spec("x"), spec("y", "FP32", -1, 4))
    found = interface(step, step, inputs=[{"name": "in", "shape": [2, 4]}], outputs=[{"name": "out"}])
    assert found.signature == Signature((spec("in", "FP32", 2, 4),), (spec("out", "FP32", -1, 4),))


def test_two_steps_narrow_what_they_both_get() -> None:
    steps = [A._replace(outputs={"y": "left"}), B._replace(inputs={"x": "in"}, outputs={"y": "right"})]
    models = [model(spec("x", "FP32", -1, 3), spec("y")), model(spec("x", "FP32", 2, -1), spec("y"))]
    assert pipeline_interface(steps, models, ModelToml(), {}).signature.inputs == (spec("in", "FP32", 2, 3),)
    models[1] = model(spec("x", "FP32", 2, 4), spec("y"))
    with pytest.raises(Mismatch, match="input 'x' of step 'b' has shape"):
        pipeline_interface(steps, models, ModelToml(), {})


def test_alternatives_widen_what_they_make() -> None:
    steps = [
        A._replace(outputs={"y": "out"}, when=Condition("flag")),
        B._replace(inputs={"x": "in"}, when=Condition("flag", False)),
    ]
    models = [model(spec("x"), spec("y", "FP32", 2, 3)), model(spec("x"), spec("y", "FP32", 2, 5))]
    found = pipeline_interface(steps, models, ModelToml(), {}).signature
    assert found.outputs == (spec("out", "FP32", 2, -1),)
    assert found.inputs == (spec("in"), spec("flag", "BOOL"))
    declared = ModelToml.model_validate({"inputs": [{"name": "in"}, {"name": "flag", "datatype": "INT8"}]})
    wide = ModelToml.model_validate({"inputs": [{"name": "in"}, {"name": "flag", "shape": [2]}]})
    with pytest.raises(Mismatch, match="'when' of step 'a' needs one element, but the input 'flag' of the pipeline"):
        pipeline_interface(steps, models, wide, {})
    with pytest.raises(Mismatch, match="'when' of step 'a' is BOOL, but the input 'flag' of the pipeline is INT8"):
        pipeline_interface(steps, models, declared, {})


def test_an_input_is_optional_if_all_steps_can_do_without_it() -> None:
    steps = [A._replace(inputs={"x": "in", "z": "hint"}), B._replace(inputs={"x": "mid", "z": "hint"})]
    both = model([spec("x"), spec("z")], spec("y"), optional=("z",))
    assert pipeline_interface(steps, [both, both], ModelToml(), {}).signature.optional == ("hint",)
    one = model([spec("x"), spec("z")], spec("y"))
    assert pipeline_interface(steps, [both, one], ModelToml(), {}).signature.optional == ()


def test_the_outputs_of_a_step_decide_which_inputs_it_needs() -> None:
    signature = Signature(
        (spec("x"), spec("label")), (spec("z"), spec("loss")), {}, ("label",), {"z": ("x",), "loss": ("x", "label")}
    )
    trained = model([], [])
    trained = replace(trained, signatures={"default": signature})
    second = B._replace(inputs={"x": "mid"})
    for outputs, optional in (({"z": "mid"}, ("label",)), ({"z": "mid", "loss": "loss"}, ())):
        steps = [A._replace(inputs={"x": "in", "label": "label"}, outputs=outputs), second]
        found = pipeline_interface(steps, [trained, model(spec("x"), spec("y"))], ModelToml(), {}).signature
        assert found.optional == optional
    steps = [A._replace(inputs={"x": "in"}, outputs={"z": "mid", "loss": "loss"}), second]
    with pytest.raises(Mismatch, match="step 'a' needs the input 'label', to which no tensor is mapped"):
        pipeline_interface(steps, [trained, model(spec("x"), spec("y"))], ModelToml(), {})


def test_an_input_without_rows_is_none_of_a_step() -> None:
    first = model(spec("x"), spec("y"))
    signature = first.signatures["default"]._replace(unbatched=(spec("w", "FP32", 2),))
    steps = [A._replace(inputs={"x": "in", "w": "weights"}), B]
    with pytest.raises(Mismatch, match="input 'w' of its step 'a' has no rows"):
        pipeline_interface(steps, [replace(first, signatures={"default": signature})] * 2, ModelToml(), {})


ROWS = spec("x", "FP32", -1, 4), spec("y", "FP32", -1, 4)
FIXED = spec("x", "FP32", 1, 4), spec("y", "FP32", 1, 4)


@pytest.mark.parametrize(
    ("first", "second", "declared", "expected"),
    [
        (model(*ROWS, rows=8), model(*ROWS, rows=4), {}, 4),
        (model(*ROWS, rows=8), model(*ROWS, rows=4), {"max_batch_size": 16}, 16),
        (model(*ROWS, rows=8), model(*ROWS, rows=4), {"max_batch_size": 0}, 0),
        (model(*ROWS, rows=8), model(*ROWS), {}, 0),
        (model(*ROWS, rows=8), model(*ROWS), {"max_batch_size": 8}, 8),
        (model(*ROWS, rows=8), model(*ROWS, was_batched=True), {}, 1),
        (model(*ROWS, rows=8), model(*ROWS, rows=8, batch_dim=1), {}, 0),
        (model(*FIXED, rows=8), model(*ROWS, rows=8), {}, 0),
    ],
)
def test_a_pipeline_has_rows_if_all_its_steps_have(
    first: ModelStatus, second: ModelStatus, declared: dict[str, object], expected: int
) -> None:
    assert interface(first, second, **declared).max_batch_size == expected


def test_labels_come_from_the_step_that_makes_the_output() -> None:
    steps = model(spec("x"), spec("y")), model(spec("x"), spec("y"), class_labels={"y": ["cat", "dog"]})
    assert interface(*steps).class_labels == {"out": ("cat", "dog")}
    own = pipeline_interface([A, B], steps, ModelToml(), {"out": ("a", "b")})
    assert own.class_labels == {"out": ("a", "b")}


def test_what_a_step_has_learned_completes_the_metadata_and_is_never_enforced() -> None:
    learned = Signature((spec("x", "FP32", 9),), (spec("y", "FP32", 9),))
    found = interface(model(spec("x"), spec("y")), model(spec("x", "FP32", 4), [], learned=learned))
    assert found.signature.outputs == (TensorSpec("out", "", None),)
    assert found.learned is not None
    assert found.learned.outputs == (spec("out", "FP32", 9),)
