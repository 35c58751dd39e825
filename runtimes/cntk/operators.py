"""Times the operators of a CNTK function with CNTK's timing of nodes.

`cntk.debugging.start_profiler` measures training only. The timing of nodes, which CNTK prints to standard error and
then resets, is that of each primitive function. It applies to functions that are loaded after it was enabled, and CNTK
2.7 cannot disable it.
"""

import os
import re
import tempfile
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List

import cntk
import numpy as np
from cntk.debugging import set_node_timing

from runtimes.contract import Model
from runtimes.profiled_runs import duration_us, median_run, unprofiled, without_operators
from runtimes.profiling import OperatorProfile, OperatorTime

from .graph import names_of, read_graph
from .runtime import CntkModel, load

_STDERR = 2
_LINE = re.compile(r"^(\S+)\s+forward avg ([0-9.]+)s.*\(fwd# (\d+)\|", re.MULTILINE)
_LIMITS = (
    "CNTK prints whole microseconds, as the average of the runs of a node in one inference.",
    "It does not tell when an operator began: they are shown one after the other, in the order of the graph.",
)
_WITHOUT = "CNTK times the nodes of FP32 models only."


def time_operators(model: Model, inputs: Dict[str, np.ndarray], signature: str) -> OperatorProfile:
    assert isinstance(model, CntkModel)
    unprofiled_us, count = unprofiled(lambda: model.infer(inputs, (), signature))
    profiler = "the node timing of CNTK %s" % cntk.__version__
    set_node_timing(True)
    timed = load(model.options)
    runs = []
    with _standard_error() as file:
        for number in range(count + 3):
            duration = duration_us(lambda: timed.infer(inputs, (), signature))
            before = file.seek(0, os.SEEK_END)
            try:
                timed.function.print_node_timing()
            except RuntimeError as error:
                if "type-cast" not in str(error):
                    raise
                return without_operators(profiler, unprofiled_us, count, _WITHOUT)
            file.seek(before)
            if number >= 3:  # the first allocate memory
                runs.append((duration, file.read().decode("utf-8", "replace")))
    duration, printed = median_run(runs)
    return OperatorProfile(
        profiler=profiler,
        operators=tuple(_operators(printed, timed, signature)),
        duration_us=duration,
        unprofiled_us=unprofiled_us,
        runs=count,
        limits=_LIMITS,
    )


@contextmanager
def _standard_error() -> Iterator[Any]:
    """Send what C code writes to standard error to a file, within the block."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(_STDERR)
        os.dup2(file.fileno(), _STDERR)
        try:
            yield file
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)


def _operators(printed: str, model: CntkModel, signature: str) -> List[OperatorTime]:
    names, graph = names_of(model.function), read_graph(model, signature)
    times = {}  # type: Dict[str, float]
    for uid, seconds, count in _LINE.findall(printed):
        if int(count):  # otherwise it did not run, because it depends on constants only
            node = names.get(uid, uid)
            times[node] = times.get(node, 0.0) + float(seconds) * 1e6 * int(count)
    known = {node.name: node.operator for node in graph}
    found, start = [], 0.0
    for node in [each.name for each in graph if each.name in times] + [each for each in times if each not in known]:
        note = "" if node in known else "CNTK added it when it compiled the function"
        operator = known.get(node) or node.rstrip("0123456789")
        found.append(OperatorTime(node, operator, start, times[node], times[node], note=note))
        start += times[node]
    return found
