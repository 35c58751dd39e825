"""Checks how the steps of a pipeline are connected, before any of its models is known. Pure functions."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import combinations

from gateway.domain.pipeline import Step, steps_after


def graph_problem(steps: Sequence[Step], inputs: Collection[str], outputs: Collection[str], name: str = "") -> str:
    """Return what is wrong with the graph, in one sentence; "" if nothing is.

    inputs, outputs  names of the pipeline's own tensors, as declared; empty if they are not declared
    name             of the pipeline
    """
    made_by = makers(steps)
    for step in steps:
        if step.model == name:
            return f"its step '{step}' is the pipeline itself; remove it"
        if not step.outputs:
            return f"its step '{step}' makes no tensor; map at least one output"
        for tensor, count in Counter(step.outputs.values()).items():
            if count > 1:
                return f"its step '{step}' makes the tensor '{tensor}' from {count} outputs; map one of them"
            if tensor in inputs:
                return f"its step '{step}' makes the tensor '{tensor}', which is an input; use another name"
        for tensor in sorted(step.needs):
            if inputs and tensor not in made_by and tensor not in inputs:
                return f"its step '{step}' needs the tensor '{tensor}', which is no input, and which no step makes"
    needed = {tensor for step in steps for tensor in step.needs}
    for tensor in inputs:
        if tensor not in needed:
            return f"its input '{tensor}' is used by no step; map it to an input of a step, or remove it"
    for tensor, those in made_by.items():
        if len(those) > 1 and not all(step.when for step in those):
            return f"its tensor '{tensor}' is made by the steps {_names(those)}; that needs a 'when' in each of them"
    for tensor in outputs:
        if tensor not in made_by:
            return f"its output '{tensor}' is made by no step; map an output of a step to it"
    if loop := _loop(steps, made_by):
        return f"its steps wait for each other: {' → '.join(map(str, loop))}"
    return ""


def decoupled_problem(steps: Sequence[Step], decoupled: Sequence[bool], sequences: Sequence[bool]) -> str:
    """Return why the steps cannot run with those of them that are decoupled; "" if they can.

    decoupled, sequences  of each step: whether its model gives any number of answers, and whether its requests form
                          sequences
    """
    behind = {number: steps_after(steps, number) for number, each in enumerate(decoupled) if each}
    for one, other in combinations(behind, 2):
        if one not in behind[other] and other not in behind[one]:
            return (
                f"its steps {_names([steps[one], steps[other]])} are decoupled and neither needs what the other makes, "
                "so nothing says which of their answers belong together; put one behind the other"
            )
    for number, later in behind.items():
        for each in sorted(later):
            if sequences[each]:
                return (
                    f"its step '{steps[each]}' runs sequences, and would get every answer of the decoupled step "
                    f"'{steps[number]}' with the same sequence id and flags"
                )
    return ""


def makers(steps: Iterable[Step]) -> Mapping[str, list[Step]]:
    """Return the steps that make each tensor. There may be several, if they have conditions."""
    found: dict[str, list[Step]] = {}
    for step in steps:
        for tensor in step.outputs.values():
            found.setdefault(tensor, []).append(step)
    return found


def own_inputs(steps: Sequence[Step]) -> list[str]:
    """Return the tensors that a pipeline needs from its clients: those that no step makes, in order."""
    made = makers(steps)
    needed = (
        tensor for step in steps for tensor in (*step.inputs.values(), *([step.when.tensor] if step.when else []))
    )
    return list(dict.fromkeys(tensor for tensor in needed if tensor not in made))


def own_outputs(steps: Sequence[Step]) -> list[str]:
    """Return the tensors that a pipeline answers if it declares no outputs: those that no step needs, in order."""
    needed = {tensor for step in steps for tensor in step.needs}
    return [tensor for tensor in makers(steps) if tensor not in needed]


def _loop(steps: Sequence[Step], made_by: Mapping[str, Sequence[Step]]) -> list[Step]:
    """Return steps that wait for each other. Without any, a pipeline has an output: what no step needs."""
    position = {id(step): number for number, step in enumerate(steps)}
    before = {
        number: {position[id(other)] for tensor in step.needs for other in made_by.get(tensor, ())}
        for number, step in enumerate(steps)
    }
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        return [steps[number] for number in error.args[1]]
    return []


def _names(steps: Iterable[Step]) -> str:
    return ", ".join(f"'{step}'" for step in steps)
