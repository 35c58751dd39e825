"""A pipeline's state follows those of its steps. The steps are described, not run."""

from dataclasses import replace

import pytest

from gateway.domain.pipeline import MAX_DEPTH, Step
from gateway.domain.types import ModelStatus, by_model
from gateway.lifecycle.pipeline_version import PipelineVersion, in_order
from gateway.lifecycle.policy import VersionKey
from gateway.lifecycle.selection import ModelSelection
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_toml import ModelToml
from runtimes.contract import Signature, TensorSpec

STEPS = (Step("a", "", {"x": "in"}, {"y": "mid"}), Step("b", "", {"x": "mid"}, {"y": "out"}))
PLAIN = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 4)),))
INTEGERS = Signature((TensorSpec("x", "INT32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 4)),))
READY = ModelStatus("a", "1", "READY", admits=True, signatures={"default": PLAIN}, max_batch_size=8)
LOADING = ModelStatus("a", "1", "LOADING", "it is being loaded")
RESTARTED = replace(READY, state="LOADING", reason="it was killed; it is being restarted")
FAILED = ModelStatus("a", "1", "UNAVAILABLE", "its file is broken")
B = replace(READY, name="b")


def pipeline(*steps: Step, name: str = "p", **toml: object) -> PipelineVersion:
    config = ModelConfig(name, "1", "print", toml=ModelToml.model_validate(toml), steps=steps or STEPS)
    return PipelineVersion(VersionKey(name, "1", "print"), config, lambda: None)


def follow(version: PipelineVersion, *statuses: ModelStatus, coming: tuple[str, ...] = ()) -> ModelStatus:
    version.follow(by_model(statuses), coming)
    return version.entry().status


@pytest.mark.parametrize(
    ("statuses", "coming", "state", "reason"),
    [
        ([READY, B], (), "READY", ""),
        ([LOADING, B], (), "LOADING", "its step 'a' is LOADING: it is being loaded"),
        ([RESTARTED, B], (), "LOADING", "its step 'a' is LOADING: it was killed; it is being restarted"),
        ([FAILED, B], (), "UNAVAILABLE", "its step 'a' is UNAVAILABLE: its file is broken"),
        ([B], (), "UNAVAILABLE", "its step 'a' is not served: it is not in the repository, or it was unloaded"),
        ([B], ("a",), "LOADING", "its step 'a' is being loaded"),
        ([LOADING, replace(FAILED, name="b")], (), "UNAVAILABLE", "its step 'b' is UNAVAILABLE: its file is broken"),
        (
            [replace(READY, decoupled=True), replace(B, decoupled=True)],
            (),
            "READY",
            "",
        ),
        (
            [replace(READY, decoupled=True), replace(B, sequence=True)],
            (),
            "UNAVAILABLE",
            "its step 'b' runs sequences, and would get every answer of the decoupled step 'a' with the same sequence "
            "id and flags",
        ),
        ([replace(READY, sequence=True), replace(B, decoupled=True)], (), "READY", ""),
        (
            [READY, replace(B, signatures={"default": INTEGERS})],
            (),
            "UNAVAILABLE",
            "input 'x' of step 'b' is INT32, but output 'y' of step 'a' is FP32; make them equal",
        ),
    ],
)
def test_the_state_follows_the_steps(
    statuses: list[ModelStatus], coming: tuple[str, ...], state: str, reason: str
) -> None:
    status = follow(pipeline(), *statuses, coming=coming)
    assert (status.state, status.reason) == (state, reason)
    assert status.admits == (state == "READY" or RESTARTED in statuses)
    assert (status.platform, status.steps) == ("ensemble", STEPS)


def test_a_pipeline_is_decoupled_while_one_of_its_steps_is() -> None:
    version = pipeline()
    assert [follow(version, READY, each).decoupled for each in (B, replace(B, decoupled=True), B)] == [
        False, True, False,
    ]  # fmt: skip


def test_a_pipeline_with_sequences_does_not_run_behind_a_decoupled_step() -> None:
    """Each answer of the step would start, or end, the same sequence again."""
    inner = pipeline(Step("b", "", {"x": "x"}, {"y": "y"}), name="inner")
    outer = pipeline(STEPS[0], Step("inner", "", {"x": "mid"}, {"y": "out"}), name="outer")
    statuses = replace(READY, decoupled=True), replace(B, sequence=True)
    status = follow(outer, *statuses, follow(inner, *statuses))
    assert (status.state, status.reason.partition(",")[0]) == ("UNAVAILABLE", "its step 'inner' runs sequences")


def test_a_step_follows_its_model_unless_its_version_is_fixed() -> None:
    newer = replace(READY, version="10", signatures={"default": INTEGERS}, version_labels=["canary"])
    following, labelled, fixed = (pipeline(STEPS[0]._replace(version=version)) for version in ("", "canary", "9"))
    older = replace(READY, version="9")
    assert follow(following, older).signatures["default"].inputs[0].datatype == "FP32"
    assert follow(following, older, newer).signatures["default"].inputs[0].datatype == "INT32"
    assert follow(fixed, older, newer).signatures["default"].inputs[0].datatype == "FP32"
    assert follow(labelled, older, newer).signatures["default"].inputs[0].datatype == "INT32"
    moved = follow(labelled, older)
    assert moved.reason == "its step 'a version canary' is not served; the versions of that model are 9"
    changed = follow(labelled, older, replace(older, version="8"))
    assert changed.reason == "its step 'a version canary' is not served; the versions of that model are 9, 8"
    # A newer version that is not ready yet is not followed.
    assert follow(following, older, replace(newer, admits=False, state="LOADING")).state == "READY"


def test_a_pipeline_recovers_and_has_the_signature_of_its_steps() -> None:
    version = pipeline()
    assert follow(version, FAILED, B).state == "UNAVAILABLE"
    assert version.failed
    status = follow(version, READY, B)
    assert (status.state, status.max_batch_size, version.failed) == ("READY", 8, False)
    signature = status.signature()
    assert signature is not None
    assert [spec.name for spec in (*signature.inputs, *signature.outputs)] == ["in", "out"]
    version.unloading = True
    assert (version.state, version.admits) == ("UNLOADING", False)


def test_images_must_fit_the_first_step() -> None:
    wrong = pipeline(preprocess={"size": [2, 2]})
    assert "[preprocess] makes images of shape [-1, 3, 2, 2], but input 'in' needs" in follow(wrong, READY, B).reason


def test_pipelines_of_pipelines_follow_in_order() -> None:
    outer = pipeline(Step("p", "", {"in": "x"}, {"out": "y"}), name="an outer one")
    inner = pipeline()
    order = list(in_order([outer, inner]))
    assert order == [([inner], ""), ([outer], "")]
    status = follow(outer, follow(inner, READY, B))
    assert (status.state, status.max_batch_size) == ("READY", 8)
    failed = follow(outer, follow(inner, FAILED, B)).reason
    assert failed == "its step 'p' is UNAVAILABLE: its step 'a' is UNAVAILABLE: its file is broken"


def test_pipelines_that_run_each_other_are_refused() -> None:
    one, other = (
        pipeline(Step(runs, "", {"x": "x"}, {"y": "y"}), name=name)
        for name, runs in (("one", "other"), ("other", "one"))
    )
    outside = pipeline(Step("one", "", {"x": "x"}, {"y": "y"}), name="outside")
    problems = {versions[0].key.model: problem for versions, problem in in_order([outside, one, other])}
    assert problems.pop("outside") == ""
    assert set(problems.values()) <= {
        f"its steps run it again: {way}; a pipeline cannot contain itself"
        for way in ("one → other → one", "other → one → other")
    }
    one.follow({}, (), problems["one"])
    assert (one.state, one.reason) == ("UNAVAILABLE", problems["one"])


def test_pipelines_are_not_nested_deeper_than_requests_may_be() -> None:
    """Far more than that, so that a recursive search would fail."""
    chain = [pipeline(Step(f"p{number + 1}", "", {"x": "x"}, {"y": "y"}), name=f"p{number}") for number in range(2000)]
    problems = [problem for _, problem in in_order(chain)]
    assert (problems[MAX_DEPTH - 2], problems[MAX_DEPTH - 1]) == (
        "",
        f"it is nested too deeply: pipelines may run each other {MAX_DEPTH} deep",
    )


def test_loading_a_pipeline_loads_its_steps() -> None:
    selection = ModelSelection("explicit", ["p"])
    selection.on_first_scan(["p", "a", "b", "c"])
    selection.on_pipelines({"p": ["a", "q"], "q": ["b"], "r": ["c"]})
    assert [name for name in "pqabcr" if selection.is_selected(name)] == ["p", "q", "a", "b"]
    selection.deselect("b")
    selection.on_pipelines({"p": ["a", "q"], "q": ["b"]})
    assert not selection.is_selected("b")
    selection.select("p")
    assert selection.is_selected("b")
    selection.deselect("p")
    assert selection.is_selected("a")  # as in Triton
