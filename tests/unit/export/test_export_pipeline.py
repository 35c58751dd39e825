"""Exports of pipelines, without frameworks: what is refused before any work, how graphs run, and what is compared."""

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gateway.domain.pipeline import Step
from gateway.environments.runtime import discover
from gateway.export import cases as case_files
from gateway.export import pipeline
from gateway.export.cases import Arrays, Case
from gateway.export.errors import CannotExport
from gateway.export.export import ExportRequest
from gateway.export.graph import Node, Outcome, in_order, run_graph
from gateway.export.jobs import Jobs, RouteFailed
from gateway.export.pipeline import domain
from gateway.export.pipeline_comparison import WholeComparison
from gateway.export.pipeline_plan import Plan, plan_of
from gateway.export.source import Source
from gateway.export.verdict import Limits, mismatch
from gateway.repository.model_config import ModelConfig
from runtimes.contract import InputRange, Signature, TensorSpec
from runtimes.control import Load

FILES = {"onnx": "model.onnx", "tflite": "model.tflite", "python": "model.py"}


def add(repository: Path, model: str, version: str = "1", platform: str = "onnx", toml: str = "") -> None:
    folder = repository / model / version
    folder.mkdir(parents=True)
    (folder / FILES[platform]).write_bytes(b"unread")
    (repository / model / "model.toml").write_text(toml)


def step(model: str, source: str, made: str, version: str = "", when: str = "") -> str:
    more = (f'version = "{version}"\n' if version else "") + (f'when = "{when}"\n' if when else "")
    return f'[[steps]]\nmodel = "{model}"\n{more}inputs = {{ x = "{source}" }}\noutputs = {{ y = "{made}" }}\n'


def plan(repository: Path, *steps: str, target: str = "tflite", **options: Any) -> Plan:
    (repository / "whole" / "1").mkdir(parents=True, exist_ok=True)
    (repository / "whole" / "model.toml").write_text("\n".join(steps))
    environments = SimpleNamespace(known=discover(), is_available=lambda runtime: True)
    return plan_of(ExportRequest("whole", target, repository / "out", repository, **options), environments)  # type: ignore[arg-type]


def test_every_step_that_cannot_be_exported_is_named(tmp_path: Path) -> None:
    add(tmp_path, "net")
    add(tmp_path, "decode", platform="python")
    add(tmp_path, "small", platform="tflite")
    (tmp_path / "inner" / "1").mkdir(parents=True)
    (tmp_path / "inner" / "model.toml").write_text(step("net", "a", "b"))
    steps = [step("decode", "file", "a"), step("net", "a", "b"), step("inner", "b", "c"), step("small", "c", "d"),
             step("nobody", "d", "e"), step("net", "e", "f", when="go")]  # fmt: skip
    with pytest.raises(CannotExport) as caught:
        plan(tmp_path, *steps, target="onnx")
    sentence = str(caught.value)
    assert sentence.startswith("pipeline 'whole' cannot be exported to onnx as a whole, because of step ")
    assert "step 'decode' (models of python cannot be exported)" in sentence
    assert "step 'inner' (it is a pipeline itself, and exports do not support pipelines in pipelines yet)" in sentence
    assert "step 'small' (there is no route from tflite to onnx" in sentence
    assert "step 'nobody' (there is no model 'nobody'" in sentence
    assert "step 'net' (it runs only when 'go', and exports do not support conditions yet)" in sentence


def test_the_others_can_be_exported_one_by_one(tmp_path: Path) -> None:
    add(tmp_path, "net")
    add(tmp_path, "decode", platform="python")
    with pytest.raises(CannotExport, match=r"export the models of the other steps one by one, net$"):
        plan(tmp_path, step("decode", "file", "a"), step("net", "a", "b"), step("net", "b", "c"))
    assert not (tmp_path / "out").exists()


def test_a_model_is_exported_once_and_each_version_by_itself(tmp_path: Path) -> None:
    add(tmp_path, "net")
    (tmp_path / "net" / "2").mkdir()
    (tmp_path / "net" / "2" / "model.onnx").write_bytes(b"unread")
    labels = "version_policy = {all = true}\n[version_labels]\nold = 1\n"
    (tmp_path / "net" / "model.toml").write_text(labels)
    twice = plan(tmp_path, step("net", "a", "b"), step("net", "b", "c"))
    assert (list(twice.names), [each.version for each in twice.models.values()]) == (["net", "net"], ["2"])
    both = plan(tmp_path, step("net", "a", "b"), step("net", "b", "c", "old"), step("net", "c", "d", "1"))
    assert list(both.names) == ["net-2", "net-1", "net-1"]


def test_datatypes_that_the_target_lacks_are_refused_before_any_step_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def opened(*_: object) -> SimpleNamespace:
        return SimpleNamespace(signature=Signature((TensorSpec("x", "BF16", (-1, 4)),), ()))

    monkeypatch.setattr(pipeline, "open_source", opened)
    add(tmp_path, "net")
    planned = plan(tmp_path, step("net", "a", "b"), step("net", "b", "c"))
    request = ExportRequest("whole", "tflite", tmp_path / "out", tmp_path)
    export = pipeline._PipelineExport(request, planned, tmp_path, SimpleNamespace(), lambda line: None)  # type: ignore[arg-type]
    with pytest.raises(CannotExport, match="input 'x' is BF16, which tflite lacks"):
        asyncio.run(export.run())


def test_options_that_a_pipeline_does_not_have(tmp_path: Path) -> None:
    add(tmp_path, "net")
    with pytest.raises(CannotExport, match="which has one signature only"):
        plan(tmp_path, step("net", "a", "b"), signature="other")
    with pytest.raises(CannotExport, match=r"has no tensor 'x' for --shape; it has a, b"):
        plan(tmp_path, step("net", "a", "b"), shapes={"x": (1, 2)})


# A model is a function here, by the path of its artifact.
Function = Callable[[Arrays], Arrays]


class FakeJobs(Jobs):
    """Answers with functions of numpy. limits: path → what a job reports about the integers that it accepted."""

    def __init__(self, folder: Path, functions: Mapping[str, Function], limits: Mapping[str, Any] = {}) -> None:
        super().__init__(Path(tempfile.mkdtemp(dir=folder)), lambda line: None)
        self._functions = functions
        self._limits = limits
        self.started: list[tuple[str, int, bool]] = []

    async def run(self, environment: Any, job: Mapping[str, Any], threads: int = 0) -> dict[str, Any]:
        path = job["load"]["artifact"]
        self.started.append((path, len(job["cases"]), job["fold"]))
        answers = []
        for file in job["cases"]:
            try:
                outputs = self._functions[path](case_files.read(Path(file)))
            except ValueError as error:
                answers.append({"failed": str(error)})
                continue
            case_files.write(Case(Path(file).stem, outputs), Path(job["results"]))
            answers.append({"limits": self._limits[path]} if path in self._limits else {})
        return {"answers": answers}


def node(
    model: str, inputs: dict[str, str], made: str, shape: tuple[int, ...] = (-1, 2), datatype: str = "FP32"
) -> Node:
    specs = tuple(TensorSpec(name, datatype, shape) for name in inputs)
    signature = Signature(specs, (TensorSpec("y", datatype, shape),))
    return Node(Step(model, "", inputs, {"y": made}), None, Load("", model), "", signature, True)  # type: ignore[arg-type]


def arrays(**values: Any) -> Arrays:
    return {name: np.asarray(value, np.float32) for name, value in values.items()}


def run(nodes: list[Node], given: list[Case], jobs: Jobs) -> list[Outcome]:
    return asyncio.run(run_graph(nodes, given, jobs))


NODES = [node("twice", {"x": "in"}, "mid"), node("sum", {"a": "mid", "b": "in"}, "out")]
FUNCTIONS: dict[str, Function] = {
    "twice": lambda given: {"y": 2 * given["x"]},
    "sum": lambda given: {"y": given["a"] + given["b"]},
}


def test_steps_run_in_the_order_of_their_tensors() -> None:
    steps = [each.step for each in (NODES[1], NODES[0])]
    assert [each.model for each in in_order(steps)] == ["twice", "sum"]


def test_each_step_runs_all_cases_in_one_job(tmp_path: Path) -> None:
    jobs = FakeJobs(tmp_path, FUNCTIONS)
    given = [Case("one", arrays(**{"in": [[1, 2]]})), Case("other", arrays(**{"in": [[3, 4], [5, 6]]}))]
    outcomes = run(NODES, given, jobs)
    assert jobs.started == [("twice", 2, False), ("sum", 2, False)]
    assert [each.tensors["out"].tolist() for each in outcomes] == [[[3, 6]], [[9, 12], [15, 18]]]


def test_a_refusal_names_the_step_and_stops_only_its_case(tmp_path: Path) -> None:
    def picky(given: Arrays) -> Arrays:
        if given["a"].max() > 4:
            raise ValueError("too large")
        return {"y": given["a"]}

    jobs = FakeJobs(tmp_path, {**FUNCTIONS, "sum": picky})
    given = [Case("small", arrays(**{"in": [[1, 2]]})), Case("large", arrays(**{"in": [[3, 4]]}))]
    assert [each.refusal for each in run(NODES, given, jobs)] == ["", "step 'sum': too large"]


def test_ids_are_changed_only_where_no_other_step_gets_them(tmp_path: Path) -> None:
    """Another step must see the same ids, and what one step makes for another is never changed."""
    given = [Case("ids", arrays(**{"in": [[1, 5]]}), generated=True)]
    jobs = FakeJobs(tmp_path, FUNCTIONS)
    run(NODES, given, jobs)
    assert [fold for *_, fold in jobs.started] == [False, False]
    jobs = FakeJobs(tmp_path, FUNCTIONS, {"twice": {"x": 3}})
    (outcome,) = run(NODES[:1], given, jobs)
    assert jobs.started == [("twice", 1, True)]
    assert outcome.case.inputs["in"].tolist() == [[1, 2]]
    assert outcome.tensors["in"].tolist() == [[1, 2]]


def test_a_size_that_an_export_does_not_take(tmp_path: Path) -> None:
    fixed = [NODES[0], node("sum", {"a": "mid", "b": "in"}, "out", (-1, 3))]
    given = [Case("narrow", arrays(**{"in": [[1, 2]]}), generated=True)]
    (outcome,) = run(fixed, given, FakeJobs(tmp_path, FUNCTIONS))
    assert (outcome.excluded, outcome.refusal) == (True, "step 'sum' does not accept the sizes of 'narrow'")


def test_values_that_an_export_cannot_hold(tmp_path: Path) -> None:
    (outcome,) = run(
        [node("twice", {"x": "in"}, "out", datatype="INT32")],
        [Case("given", {"in": np.array([[1 << 40, 0]])})],
        FakeJobs(tmp_path, FUNCTIONS),
    )
    assert outcome.refusal == "step 'twice': 'x' holds values that INT32 cannot"
    assert not outcome.excluded


def test_an_output_that_a_model_lacks(tmp_path: Path) -> None:
    jobs = FakeJobs(tmp_path, {"twice": lambda given: {"other": given["x"]}})
    with pytest.raises(CannotExport, match="step 'twice' has no output 'y'; it has other"):
        run(NODES[:1], [Case("one", arrays(**{"in": [[1, 2]]}))], jobs)


def test_a_step_that_does_not_run_is_named(tmp_path: Path) -> None:
    class Broken(FakeJobs):
        async def run(self, environment: Any, job: Mapping[str, Any], threads: int = 0) -> dict[str, Any]:
            raise RouteFailed("it ended with code 1", "the last lines")

    with pytest.raises(CannotExport, match="step 'twice' does not run: it ended with code 1") as caught:
        run(NODES, [Case("one", arrays(**{"in": [[1, 2]]}))], Broken(tmp_path, {}))
    assert caught.value.detail == "the last lines"


def whole(tmp_path: Path, exported: Function, functions: Mapping[str, Function] = FUNCTIONS) -> str:
    """Return why a pipeline of which the second step became `exported` does not match; "" if it does."""
    signature = Signature((TensorSpec("in", "FP32", (-1, 2)),), (TensorSpec("out", "FP32", (-1, 2)),))
    given = case_files.generated(signature.inputs, {"in": (1, 2)}, True)
    jobs = FakeJobs(tmp_path, functions)
    answered = run(NODES, given, jobs)
    outcomes = run(NODES, given, FakeJobs(tmp_path, {**functions, "sum": exported}))
    comparison = WholeComparison(NODES, signature, (), 1e-4, jobs)
    found, compared, _ = asyncio.run(comparison.run("Runner", answered, outcomes))
    assert len(compared) == found.cases
    return mismatch(found, Limits(1e-4))


def test_the_whole_must_match(tmp_path: Path) -> None:
    assert whole(tmp_path, FUNCTIONS["sum"]) == ""
    swapped = whole(tmp_path, lambda given: {"y": given["a"] - given["b"]})
    assert swapped.startswith("Runner: output 'out' differs by ")


def test_an_input_that_only_the_export_refuses(tmp_path: Path) -> None:
    def refuses(given: Arrays) -> Arrays:
        raise ValueError("no kernel")

    with pytest.raises(CannotExport, match=r"once exported, it fails on input \w+: step 'sum': no kernel"):
        whole(tmp_path, refuses)


def test_noise_of_the_originals_is_no_difference(tmp_path: Path) -> None:
    """The originals answer 7 differently from its neighbors, which a correct export may confuse with 7."""
    signature = Signature((TensorSpec("in", "FP32", (-1, 2)),), (TensorSpec("out", "FP32", (-1, 2)),))
    inputs = [[1, 2], [2, 3], [3, 4], [4, 5], [7, 7]]
    given = [Case(f"case{n}", arrays(**{"in": [row]}), generated=True, exact=False) for n, row in enumerate(inputs)]

    def sharp(given: Arrays) -> Arrays:
        return {"y": np.where(given["b"] == 7, given["a"], np.float32(1.05) * given["a"])}

    jobs = FakeJobs(tmp_path, {**FUNCTIONS, "sum": sharp})
    answered = run(NODES, given, jobs)
    outcomes = run(NODES, given, FakeJobs(tmp_path, {**FUNCTIONS, "sum": lambda x: {"y": np.float32(1.05) * x["a"]}}))
    jobs.started.clear()
    found, *_ = asyncio.run(WholeComparison(NODES, signature, (), 1e-4, jobs).run("Runner", answered, outcomes))
    assert [count for _, count, _ in jobs.started] == [2, 2]  # only the input that differs, moved twice
    assert (mismatch(found, Limits(1e-4)), list(found.differences[0].left_out)) == ("", ["case4"])


def source(ranges: dict[str, InputRange], batches: bool = True) -> Source:
    signature = Signature((TensorSpec("x", "INT64", (-1, -1)),), ())
    shapes = {"x": (1, 8)}
    return Source(ModelConfig("m", "1", ""), "onnx", None, None, "", signature, shapes, batches, {}, ranges)  # type: ignore[arg-type]


def test_what_the_steps_know_about_the_inputs() -> None:
    steps = [Step("a", "", {"x": "ids"}, {"y": "b"}), Step("c", "", {"x": "ids"}, {"y": "d"})]
    signature = Signature((TensorSpec("ids", "INT64", (-1, 5)),), ())
    known = InputRange(0, 99)
    found = domain(signature, steps, [source({}), source({"x": known})])
    assert found == (signature.inputs, {"ids": (1, 5)}, True, {"ids": known})
    assert not domain(signature, steps, [source({}), source({}, batches=False)]).batches
