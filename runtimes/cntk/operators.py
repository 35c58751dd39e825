"""Times the operators of a CNTK function with CNTK's profiler.

CNTK 2.7 records the operators of an inference only if the timing of nodes was enabled before the function first ran,
and it cannot disable that again. So the function is loaded once more.
"""

import glob
import os
import re
import tempfile
from typing import Any, Callable, Dict, List, Tuple

import cntk
import numpy as np
from cntk import debugging

from runtimes.contract import Model
from runtimes.profiled_runs import Span, duration_us, lanes, median_run, unprofiled
from runtimes.profiling import OperatorProfile, OperatorTime

from .graph import names_of, read_graph
from .runtime import CntkModel, load

_BUFFER_BYTES = 1 << 25  # of the profiler; CNTK's default
_EVENT_BYTES = 32  # in that buffer, besides the uid: "Forward", the end of that string, two times and a thread
# An event is a line of JSON; but CNTK does not escape the uids, which come from the artifact.
_EVENT = re.compile(r'"tid":(\d+), "name":"(.*?)Forward", "cat":"PERF", "ph":"([BE])", "ts":(\d+)}', re.DOTALL)
_ROUNDED = "CNTK rounds the beginning and end of an operator to whole microseconds."
_FULL = "The inference has more operators than CNTK's profiler can record: the last ones are missing."


def time_operators(model: Model, inputs: Dict[str, np.ndarray], signature: str) -> OperatorProfile:
    assert isinstance(model, CntkModel)
    unprofiled_us, count = unprofiled(lambda: model.infer(inputs, (), signature))
    debugging.set_node_timing(True)
    timed = load(model.options)
    for _ in range(3):  # the first runs allocate memory
        timed.infer(inputs, (), signature)
    duration, written = median_run([_profiled(lambda: timed.infer(inputs, (), signature)) for _ in range(count)])
    spans = _spans(written)
    return OperatorProfile(
        profiler="the profiler of CNTK %s" % cntk.__version__,
        operators=tuple(_operators(spans, timed, signature)),
        duration_us=duration,
        unprofiled_us=unprofiled_us,
        runs=count,
        limits=(_ROUNDED, _FULL) if _is_full(spans) else (_ROUNDED,),
    )


def _profiled(infer: Callable[[], Any]) -> Tuple[float, str]:
    """Run an inference with CNTK's profiler. Returns how long it took, and the file with its events."""
    with tempfile.TemporaryDirectory() as folder:
        debugging.start_profiler(folder, reserve_mem=_BUFFER_BYTES)
        try:
            debugging.enable_profiler()  # times count from here
            duration = duration_us(infer)
        finally:
            debugging.stop_profiler()  # writes the files
        path = glob.glob(os.path.join(glob.escape(folder), "*_detail_*.json"))[0]
        with open(path, encoding="utf-8", errors="replace") as file:
            return duration, file.read()


def _is_full(spans: List[Span]) -> bool:
    sizes = [len(span.key.encode()) + _EVENT_BYTES for span in spans]
    return sum(sizes) + max(sizes, default=0) > _BUFFER_BYTES


def _operators(spans: List[Span], model: CntkModel, signature: str) -> List[OperatorTime]:
    names = names_of(model.function)
    known = {node.name: node.operator for node in read_graph(model, signature)}
    numbers = lanes([span.thread for span in spans])
    found = []
    for span in spans:
        node = names.get(span.key, span.key)
        operator = known.get(node) or node.rstrip("0123456789")
        note = "" if node in known else "CNTK added it when it compiled the function"
        times = span.start_us, span.duration_us, span.duration_us  # a function calls no other
        found.append(OperatorTime(node, operator, *times, lane=numbers[span.thread], note=note))
    return found


def _spans(written: str) -> List[Span]:
    """Return the executions of functions, whose uids are the keys, by start. written: CNTK's file."""
    found, started = [], {}  # type: List[Span], Dict[Tuple[str, str], float]
    for thread, uid, phase, time in _EVENT.findall(written):
        if phase == "B":
            started[thread, uid] = float(time)
        else:
            start = started.pop((thread, uid))
            found.append(Span(uid, start, float(time) - start, thread))
    return found
