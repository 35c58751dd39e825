"""Times the operators of a PyTorch model with torch.profiler.

The profiler reports operators of PyTorch, not nodes of a graph. So the model is loaded once more, and each of its nodes
marks what runs for it with torch.autograd.profiler's record_function, before its first run. A node may run several
operators: aten::linear calls aten::addmm. All of them are reported as executions of the node.
"""

from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from runtimes.contract import Model, Unsupported
from runtimes.profiled_runs import Span, lanes, median_run, self_times, unprofiled, within
from runtimes.profiling import OperatorProfile, OperatorTime

from .marks import MARK, mark
from .program import TorchModel
from .runtime import load

_INFERENCE = MARK + "inference"
_LIMITS = (
    "PyTorch's profiler does not tell what an operator does on the threads that it starts.",
    "Each node marks its operators, which takes time of the inference but not of its operators.",
)


def time_operators(model: Model, inputs: Dict[str, np.ndarray], signature: str) -> OperatorProfile:
    assert isinstance(model, TorchModel)
    if model.program.module is None:
        raise Unsupported("operators are not timed: PyTorch's profiler does not see what AOTInductor has compiled")
    unprofiled_us, count = unprofiled(lambda: model.infer(inputs, (), signature))
    marked = load(model.options)
    assert isinstance(marked, TorchModel)
    mark(marked.program.module)
    for _ in range(3):  # the first runs of a TorchScript module optimize it
        marked.infer(inputs, (), signature)
    activities = [ProfilerActivity.CPU]
    if model.options.device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        for _ in range(count):
            with record_function(_INFERENCE):
                marked.infer(inputs, (), signature)
    events = profiler.events()
    inferences = [Span(None, *_times(event)) for event in events if event.name == _INFERENCE and _is_on_cpu(event)]
    duration, inference = median_run([(each.duration_us, each) for each in inferences])
    operators = _on_cpu(events, inference) + _on_devices(events, inference)
    return OperatorProfile(
        profiler="torch.profiler of PyTorch %s" % torch.__version__.split("+")[0],
        operators=tuple(sorted(operators, key=lambda each: each.start_us)),
        duration_us=duration,
        unprofiled_us=unprofiled_us,
        runs=count,
        limits=_LIMITS,
    )


def _on_cpu(events: Sequence[Any], inference: Span) -> List[OperatorTime]:
    found = [Span(event, *_times(event), event.thread) for event in events if _is_operator(event)]
    spans = self_times(within(found, inference))
    lane = lanes([span.thread for span in spans])
    times = []
    for span in spans:
        node, note = _node(span.key)
        start = span.start_us - inference.start_us
        times.append(
            OperatorTime(node, span.key.name, start, span.own_us, span.duration_us, "cpu", lane[span.thread], note=note)
        )
    return times


def _on_devices(events: Sequence[Any], inference: Span) -> List[OperatorTime]:
    """Return what ran on devices, for the nodes whose operators launched it. Its lanes are streams."""
    launched = {event.id: event for event in events if _is_operator(event)}
    times = []
    for event in events:
        if _is_on_cpu(event) or event.is_user_annotation:
            continue
        start, duration = _times(event)
        if not inference.start_us <= start < inference.end_us:
            continue
        owner = launched.get(event.linked_correlation_id) or launched.get(event.external_id)
        node, note = _node(owner) if owner else (event.name, "PyTorch does not tell which operator launched it")
        device, stream = "cuda:%d" % event.device_index, int(event.device_resource_id or 0)
        times.append(
            OperatorTime(node, event.name, start - inference.start_us, duration, duration, device, stream, note=note)
        )
    return times


def _node(event: Any) -> Tuple[str, str]:
    """Return the node for which an operator ran, or its name and why there is none."""
    around = event.cpu_parent
    while around is not None:
        if around.name.startswith(MARK) and around.name != _INFERENCE:
            return around.name[len(MARK) :], ""
        around = around.cpu_parent
    return event.name, "it belongs to no node: it converts the model's inputs or outputs"


def _is_operator(event: Any) -> bool:
    return _is_on_cpu(event) and "::" in event.name and not event.name.startswith(MARK)


def _is_on_cpu(event: Any) -> bool:
    return bool(event.device_type == torch.autograd.DeviceType.CPU)


def _times(event: Any) -> Tuple[float, float]:
    return event.time_range.start, event.time_range.elapsed_us()
