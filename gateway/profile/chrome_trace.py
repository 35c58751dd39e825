"""Profiles of operators in the Trace Event Format, which Perfetto, chrome://tracing and speedscope open.

A process is a device of a model, and a thread is one of its lanes. All models begin at 0, so that they can be compared.
The numbers of processes depend on the models' names, so that the events of several files can be joined.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runtimes.profiling import OperatorProfile, OperatorTime

_INFERENCE = "inference"


def chrome_trace(profiles: Mapping[str, OperatorProfile]) -> dict[str, Any]:
    """Return the content of the file. profiles: by the names of the models."""
    events: list[dict[str, Any]] = []
    for model, profile in profiles.items():
        for device in dict.fromkeys(["cpu", *(each.device for each in profile.operators)]):
            process = zlib.crc32(f"{model} on {device}".encode()) >> 1  # they are signed, of 32 bits
            operators = [each for each in profile.operators if each.device == device]
            events += _process(process, f"{model} on {device}", profile, operators)
            if device == "cpu":  # the inference begins and ends there
                arguments = {"unprofiled_us": profile.unprofiled_us, "profiled_runs": profile.runs}
                events.append(_thread(process, 0, _INFERENCE))
                events.append(_slice(process, 0, _INFERENCE, _INFERENCE, 0.0, profile.duration_us, arguments))
    profilers = {
        model: {"profiler": profile.profiler, "limits": list(profile.limits)} for model, profile in profiles.items()
    }
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": profilers}


def _process(
    process: int, name: str, profile: OperatorProfile, operators: Sequence[OperatorTime]
) -> Iterator[dict[str, Any]]:
    yield _metadata(process, 0, "process_name", {"name": name})
    yield _metadata(process, 0, "process_labels", {"labels": profile.profiler})
    for lane in sorted({each.lane for each in operators}):
        # Thread 0 shows the whole inference, so that it does not surround the operators of one lane only.
        yield _thread(process, lane + 1, f"lane {lane}")
    for each, name in _named(operators):
        arguments: dict[str, Any] = {"node": each.node, "operator": each.operator, "own_us": round(each.duration_us, 3)}
        if each.joined:
            arguments["joined"] = ", ".join(each.joined)
        if each.note:
            arguments["note"] = each.note
        yield _slice(process, each.lane + 1, name, each.operator, each.start_us, each.total_us, arguments)


def _named(operators: Sequence[OperatorTime]) -> Iterator[tuple[OperatorTime, str]]:
    """Return the operators with the names of their slices: the node, but the operator if it is called by one of it."""
    ends: dict[tuple[int, str], float] = {}
    for each in sorted(operators, key=lambda each: (each.start_us, -each.total_us)):
        ends_us = each.start_us + each.total_us
        key = each.lane, each.node
        inside = ends_us <= ends.get(key, -1.0)
        ends[key] = max(ends_us, ends.get(key, -1.0))
        yield each, each.operator if inside else each.node


def _slice(
    process: int, thread: int, name: str, category: str, start_us: float, us: float, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    # Times are not negative in this format, but a clock of whole microseconds can be early by less than one.
    position = {"pid": process, "tid": thread, "ts": round(max(start_us, 0.0), 3), "dur": round(us, 3)}
    # A comma separates the categories of an event.
    return {"ph": "X", "name": name, "cat": category.replace(",", " "), **position, "args": dict(arguments)}


def _thread(process: int, thread: int, name: str) -> dict[str, Any]:
    return _metadata(process, thread, "thread_name", {"name": name})


def _metadata(process: int, thread: int, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": process, "tid": thread, "args": dict(arguments)}
