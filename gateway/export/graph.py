"""Runs a pipeline on files, without a gateway: each step in the environment of its runtime, on all inputs at once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.domain.pipeline import Step
from gateway.environments.environment import Environment
from gateway.export import cases as case_files
from gateway.export import interface
from gateway.export.cases import Arrays, Case
from gateway.export.errors import CannotExport
from gateway.export.jobs import CasesJob, Jobs, RouteFailed
from gateway.export.source import Source
from gateway.export.verification import Loaded
from gateway.repository.pipeline_graph import own_inputs
from runtimes.contract import Signature
from runtimes.control import Load
from runtimes.id_ranges import Limit, wrap_ids


class Node(NamedTuple):
    """A step with the model that runs it: the original or its export.

    key      of the model's signature
    batches  whether the first dimension of the model's inputs counts rows
    fixed    the number of rows that it requires; 0 for any
    """

    step: Step
    environment: Environment
    load: Load
    key: str
    signature: Signature
    batches: bool
    fixed: int = 0

    @classmethod
    def of_original(cls, step: Step, source: Source) -> "Node":
        return cls(step, source.environment, source.load, source.key, source.signature, source.batches)

    @classmethod
    def of_export(cls, step: Step, source: Source, loaded: Loaded) -> "Node":
        fixed = interface.fixed_rows(loaded.signature) if source.batches else 0
        return cls(step, loaded.environment, loaded.load, "", loaded.signature, source.batches, fixed)


class Outcome(NamedTuple):
    """One run of the whole graph.

    case      with its ids as the models accept them
    tensors   all of the pipeline's, as far as they were computed
    refusal   why a step could not run, in one sentence that names it; "" if all ran
    excluded  whether that is only because it accepts no such sizes
    """

    case: Case
    tensors: Arrays
    refusal: str = ""
    excluded: bool = False


def in_order(steps: Sequence[Step]) -> list[Step]:
    """Return the steps, each after those that make its inputs. They must not wait for each other."""
    known, ordered, left = set(own_inputs(steps)), list[Step](), list(steps)
    while left:
        ready = [step for step in left if step.needs <= known]
        assert ready, "a scan refuses loops"
        ordered += ready
        known.update(tensor for step in ready for tensor in step.outputs.values())
        left = [step for step in left if not any(step is other for other in ready)]
    return ordered


async def run_graph(nodes: Sequence[Node], cases: Sequence[Case], jobs: Jobs) -> list[Outcome]:
    """Run the nodes, which are in order, on all cases. Raises CannotExport if one does not run at all.

    Generated ids that a model refuses are taken modulo what it accepts, if no other step gets them. What one step
    makes for another is never changed.
    """
    runs = [Outcome(case, dict(case.inputs)) for case in cases]
    uses = Counter(tensor for node in nodes for tensor in node.step.inputs.values())
    for node in nodes:
        folder, results = jobs.folder("inputs"), jobs.folder("results")
        started = []
        for number, run in enumerate(runs):
            if run.refusal:
                continue
            prepared = _prepare(node, run)
            if isinstance(prepared, Outcome):
                runs[number] = prepared
            else:
                started.append((number, case_files.write(Case(f"case-{number}", prepared), folder)))
        if not started:
            break
        fold = all(case.generated for case in cases) and all(
            uses[tensor] == 1 and tensor in cases[0].inputs for tensor in node.step.inputs.values()
        )
        job = CasesJob(node.load, node.key, [file for _, file in started], results, fixed=node.fixed, fold=fold)
        try:
            answer = await jobs.run(node.environment, job.to_json())
        except RouteFailed as error:
            raise CannotExport(f"step '{node.step}' does not run: {error}", error.detail) from None
        for (number, file), result in zip(started, answer["answers"], strict=True):
            if "failed" in result:
                runs[number] = runs[number]._replace(refusal=f"step '{node.step}': {result['failed']}")
            else:
                outputs = case_files.read(results / file.name)
                runs[number] = _continued(node, runs[number], outputs, result.get("limits", {}))
    return runs


def _prepare(node: Node, run: Outcome) -> Arrays | Outcome:
    """Return the inputs of the node's model, or the outcome if it cannot take them."""
    arrays = {name: run.tensors[tensor] for name, tensor in node.step.inputs.items()}
    if run.case.generated and not interface.accepts_sizes(node.signature, arrays, node.batches):
        refusal = f"step '{node.step}' does not accept the sizes of '{run.case.name}'"
        return run._replace(refusal=refusal, excluded=True)
    try:
        return interface.cast(arrays, node.signature.inputs)
    except OverflowError as error:
        return run._replace(refusal=f"step '{node.step}': {error}")


def _continued(node: Node, run: Outcome, outputs: Arrays, limits: Mapping[str, Limit]) -> Outcome:
    """Return the outcome with what the node's model has made from inputs within these limits."""
    if missing := [name for name in node.step.outputs if name not in outputs]:
        names = ", ".join(outputs) or "none"
        raise CannotExport(f"step '{node.step}' has no output '{missing[0]}'; it has {names}")
    of_limits = {node.step.inputs[name]: limit for name, limit in limits.items()}
    case = run.case._replace(inputs=wrap_ids(run.case.inputs, of_limits))
    made = {tensor: outputs[name] for name, tensor in node.step.outputs.items()}
    return run._replace(case=case, tensors={**run.tensors, **case.inputs, **made})
