"""Describes how a model's requests form sequences, as in Triton's ModelConfig."""

from collections.abc import Mapping
from typing import Any

from gateway.generated import model_config_pb2 as pb

_FLAGS = {"INT32": "int32_false_true", "FP32": "fp32_false_true", "BOOL": "bool_false_true"}
_TYPES = {"INT32": int, "FP32": float, "BOOL": bool}


def sequence_batching(served: Mapping[str, Any]) -> pb.ModelSequenceBatching:
    """`served`: the table [sequence] of model.toml, with its defaults."""
    batching = pb.ModelSequenceBatching(max_sequence_idle_microseconds=round(served["idle_timeout_s"] * 1e6))
    delay_us = round(served["delay_ms"] * 1000)
    if served["strategy"] == "oldest":
        batching.oldest.max_candidate_sequences = served["max_sequences"]
        batching.oldest.max_queue_delay_microseconds = delay_us
    else:
        batching.direct.max_queue_delay_microseconds = delay_us
    for control in served["controls"]:
        _add_control(batching, control)
    for state in served["states"]:
        datatype = data_type(state["datatype"])
        added = batching.state.add(
            input_name=state["input"], output_name=state["output"], data_type=datatype, dims=state["shape"]
        )
        dims = state["shape"] if state["initial_shape"] is None else state["initial_shape"]
        initial = added.initial_state.add(data_type=datatype, dims=dims)
        if state["initial"]:
            initial.data_file = state["initial"]
        else:
            initial.zero_data = True
    return batching


def _add_control(batching: pb.ModelSequenceBatching, control: Mapping[str, Any]) -> None:
    kind, datatype = control["kind"], control["datatype"]
    added: Any = batching.control_input.add(name=control["input"]).control.add()
    added.kind = added.Kind.Value(f"CONTROL_SEQUENCE_{kind}")
    if kind == "CORRID":
        added.data_type = data_type(datatype or "UINT64")
        return
    datatype = datatype or "INT32"
    getattr(added, _FLAGS[datatype]).extend(_TYPES[datatype](value) for value in control["values"])


def data_type(name: str) -> Any:
    """Return Triton's number for a datatype; TYPE_INVALID for those that Triton lacks, and for unknown ones."""
    text = f"TYPE_{'STRING' if name == 'BYTES' else name}"
    return dict(pb.DataType.items()).get(text, pb.TYPE_INVALID)
