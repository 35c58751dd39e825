"""Times the operators of a model with OpenVINO's performance counters, in a compiled model of its own."""

from typing import Any, Dict, List, Tuple

import numpy as np
import openvino as ov

from runtimes.contract import Model
from runtimes.profiled_runs import duration_us, unprofiled
from runtimes.profiling import OperatorProfile, OperatorTime

from .devices import chosen_device, compile_properties
from .graph import compiled_nodes
from .runtime import OpenVinoModel

_WARM_UPS = 3
_LIMITS = (
    "OpenVINO reports averages of all runs, in whole microseconds, and not when an operator begins: they are shown "
    "one after another.",
)


def time_operators(model: Model, inputs: Dict[str, np.ndarray], signature: str) -> OperatorProfile:
    assert isinstance(model, OpenVinoModel)
    unprofiled_us, count = unprofiled(lambda: model.infer(inputs, (), signature))
    core = ov.Core()
    device = chosen_device(core, model.options)
    compiled = core.compile_model(
        model.model, device, {**compile_properties(device, model.options), "PERF_COUNT": True}
    )
    profiled = model.in_another(compiled)
    for _ in range(_WARM_UPS):
        profiled.infer(inputs, (), signature)
    before = {name: duration for name, _, duration in profiled.counters()}
    durations = [duration_us(lambda: profiled.infer(inputs, (), signature)) for _ in range(count)]
    # Each counter is the average of all runs so far, of which the first takes long.
    counters = [
        (name, kind, max(after * (_WARM_UPS + count) - before.get(name, 0.0) * _WARM_UPS, 0.0) / count)
        for name, kind, after in profiled.counters()
    ]
    duration = sum(durations) / count
    profiler = "the performance counters of OpenVINO %s" % ov.__version__.partition("-")[0]
    return OperatorProfile(profiler, tuple(_operators(compiled, counters)), duration, unprofiled_us, count, _LIMITS)


def _operators(compiled: Any, counters: List[Tuple[str, str, float]]) -> List[OperatorTime]:
    nodes, now, found = compiled_nodes(compiled), 0.0, []
    for name, kind, duration in counters:
        node = nodes.get(name)
        note = "" if node is not None else "the graph that OpenVINO reports does not show it"
        found.append(OperatorTime(name if node is None else node.name, kind, now, duration, duration, note=note))
        now += duration
    return found
