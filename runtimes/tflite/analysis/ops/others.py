"""Variables and hash tables, operators whose result size depends on values, and random operators."""

from typing import Any

from runtimes.dataflow import computing
from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.values import Value, constant, mixed, propagate, unsure
from runtimes.dataflow.walk import Call

from ..file import CUSTOM, SHAPE
from ..operators import RANDOM, rule


@rule("VAR_HANDLE", "HASHTABLE")
def handle(call: Call) -> Value:
    return constant([1])


@rule("READ_VARIABLE", "HASHTABLE_SIZE")
def held(call: Call) -> Value:
    """Variables and tables are the same for all requests unless one writes them, which `state` finds."""
    return constant(call.attribute(SHAPE) if call.node.operator == "READ_VARIABLE" else [])


@rule("ASSIGN_VARIABLE", "HASHTABLE_IMPORT")
def assigned(call: Call) -> Any:
    return []


@rule("HASHTABLE_FIND")
def find(call: Call) -> Value:
    wrong = call.not_constant([call[0], call.get(2)])
    return wrong if wrong is not None else elementwise(call.at, call[1])


@rule("WHERE", "UNIQUE", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5")
def counted(call: Call) -> Any:
    return computing.found_in_all(call.at, call.present, len(call.node.outputs))


@rule("TFLite_Detection_PostProcess", domain=CUSTOM)
def detections(call: Call) -> Any:
    count = len(call.node.outputs)
    if any(value.tainted for value in call.present):
        return [propagate(call.present)] * count
    if call[0].axis == 0 or call[1].axis == 0:
        return [mixed("%s supports only one image" % call.at)] * count
    return [unsure("%s is not followed" % call.at)] * count


@rule(*RANDOM)
def random(call: Call) -> Any:
    return [mixed("%s is random" % call.at, call.present)] * len(call.node.outputs)
