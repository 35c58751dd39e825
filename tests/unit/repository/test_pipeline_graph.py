"""How the steps of a pipeline are connected: graphs that are accepted, and what is said of those that are not."""

from pathlib import Path

import pytest

from gateway.domain.pipeline import Condition, Step
from gateway.repository.model_toml import ModelConfigError, read_model_toml
from gateway.repository.pipeline_graph import graph_problem, own_inputs, own_outputs
from gateway.repository.scan import scan

A = Step("a", "", {"x": "in"}, {"y": "mid"})
B = Step("b", "", {"x": "mid"}, {"y": "out"})
YES = Step("yes", "", {"x": "in"}, {"y": "out"}, Condition("flag"))
NO = Step("no", "", {"x": "in"}, {"y": "out"}, Condition("flag", False))


@pytest.mark.parametrize(
    ("steps", "inputs", "outputs"),
    [
        ([A, B], ["in"], ["out"]),
        ([B, A], ["in"], ["out"]),
        ([YES, NO], ["in", "flag"], ["out"]),
        ([A, B, Step("c", "", {"p": "mid", "q": "out"}, {"r": "last"})], ["in"], ["last"]),
        ([Step("source", "", {}, {"y": "out"})], [], ["out"]),
    ],
)
def test_what_is_not_declared_follows_from_the_steps(steps: list[Step], inputs: list[str], outputs: list[str]) -> None:
    assert graph_problem(steps, [], []) == ""
    assert graph_problem(steps, inputs, outputs) == ""
    assert (own_inputs(steps), own_outputs(steps)) == (inputs, outputs)


@pytest.mark.parametrize(
    ("steps", "inputs", "outputs", "said"),
    [
        ([A._replace(outputs={})], [], [], "its step 'a' makes no tensor"),
        ([A, B], ["other"], [], "its step 'a' needs the tensor 'in', which is no input, and which no step makes"),
        ([A, B], ["in", "more"], [], "its input 'more' is used by no step"),
        ([A, B], ["in"], ["out", "more"], "its output 'more' is made by no step"),
        ([A, B], ["in", "mid"], [], "its step 'a' makes the tensor 'mid', which is an input"),
        ([A, A._replace(model="c"), B], [], [], "its tensor 'mid' is made by the steps 'a', 'c'; that needs a 'when'"),
        ([YES, NO._replace(when=None)], [], [], "is made by the steps 'yes', 'no'; that needs a 'when' in each"),
        ([A._replace(outputs={"y": "mid", "z": "mid"})], [], [], "makes the tensor 'mid' from 2 outputs"),
        ([A._replace(inputs={"x": "out"}), B], [], ["out"], "its steps wait for each other: "),
        ([A._replace(inputs={"x": "out"}), B], [], [], "its steps wait for each other: "),
        ([A._replace(inputs={"x": "mid"})], [], ["mid"], "its steps wait for each other: a → a"),
        ([A, B._replace(when=Condition("out"))], [], ["out"], "its steps wait for each other: b → b"),
        (
            [A, B._replace(when=Condition("flag"))],
            ["in"],
            [],
            "its step 'b' needs the tensor 'flag', which is no input",
        ),
        ([A._replace(model="pipeline", version="2")], [], [], "its step 'pipeline version 2' is the pipeline itself"),
    ],
)
def test_a_graph_that_cannot_run_is_refused(
    steps: list[Step], inputs: list[str], outputs: list[str], said: str
) -> None:
    problem = graph_problem(steps, inputs, outputs, "pipeline")
    assert said in problem
    assert "\n" not in problem


TOML = """
[[steps]]
model = "a"
inputs = { x = "in" }
outputs = { y = "mid" }

[[steps]]
model = "b"
version = 3
inputs = { x = "mid" }
outputs = { y = "out" }
when = "not skip"
"""


def write(repository: Path, text: str, file: str = "model.toml") -> None:
    (repository / "pipeline" / "1").mkdir(parents=True)
    (repository / "pipeline" / file).write_text(text)


def test_steps_in_model_toml(tmp_path: Path) -> None:
    write(tmp_path, TOML)
    (config,) = scan(tmp_path, {})
    assert (config.problem, config.artifact) == ("", None)
    assert config.steps == (A, B._replace(version="3", when=Condition("skip", False)))


def test_a_pipeline_needs_a_version_folder_as_any_model(tmp_path: Path) -> None:
    write(tmp_path, TOML)
    (tmp_path / "pipeline" / "1").rmdir()
    (config,) = scan(tmp_path, {})
    assert config.problem == "it has no version folder; add one, such as 1, which stays empty"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[steps]]\nmodel = 'a'\nif = 'x'", "there is no key 'steps.0.if'; the keys are inputs, model, outputs, "),
        ("[[steps]]\nmodel = ''", "'steps.0.model' is ''"),
        ("[[steps]]\nmodel = 'a'\nversion = 0", "'steps.0.version' is 0, but it must be a version's number or label"),
        ("[[steps]]\nmodel = 'a'\nwhen = ' x'", "'steps.0.when' is ' x'"),
        ("instances = 2\n[[steps]]\nmodel = 'a'", "a pipeline has no instances; set that in the models of its steps"),
        (
            "[[inputs]]\nname = 'x'\nshape = [2, 2]\nreshape = [4]\n[[steps]]\nmodel = 'a'",
            "a pipeline cannot reshape its tensors",
        ),
        ("[[steps]]\nmodel = 'a'\n" * 257, "..., but tuple should have at most 256 items"),
    ],
)
def test_wrong_steps_are_refused_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text)
    with pytest.raises(ModelConfigError) as caught:
        read_model_toml(tmp_path / "pipeline" / "model.toml")
    assert said in str(caught.value)
    assert "[]" not in str(caught.value)
    assert len(str(caught.value)) < 250


ENSEMBLE = """
name: "pipeline"
platform: "ensemble"
max_batch_size: 8
input [ { name: "in" data_type: TYPE_UINT8 dims: [ -1 ] } ]
output [ { name: "out" data_type: TYPE_FP32 dims: [ 1000 ] label_filename: "labels.txt" } ]
ensemble_scheduling {
  step [
    { model_name: "a" model_version: -1 input_map { key: "x" value: "in" } output_map { key: "y" value: "mid" } },
    { model_name: "b" model_version: 3 input_map { key: "x" value: "mid" } output_map { key: "y" value: "out" } }
  ]
}
"""


def test_an_ensemble_of_triton(tmp_path: Path) -> None:
    write(tmp_path, ENSEMBLE, "config.pbtxt")
    (tmp_path / "pipeline" / "labels.txt").write_text("cat\ndog\n")
    (config,) = scan(tmp_path, {})
    assert (config.problem, config.warning) == ("", "")
    assert config.steps == (A, B._replace(version="3"))
    assert config.class_labels == {"out": ("cat", "dog")}
    assert [(each.name, each.shape) for each in config.toml.inputs] == [("in", (-1, -1))]
    assert config.toml.max_batch_size == 8


def test_an_ensemble_whose_graph_is_wrong(tmp_path: Path) -> None:
    write(tmp_path, ENSEMBLE.replace('value: "mid" } output', 'value: "middle" } output'), "config.pbtxt")
    (tmp_path / "pipeline" / "labels.txt").write_text("cat\ndog\n")
    (config,) = scan(tmp_path, {})
    assert (
        "pipeline/config.pbtxt: its step 'b version 3' needs the tensor 'middle', which is no input" in config.problem
    )
