"""Reads sequence_batching of a config.pbtxt as the table [sequence] of model.toml."""

from typing import Any

from gateway.errors import shorten
from gateway.generated import model_config_pb2 as pb
from gateway.repository.model_toml import ModelConfigError

# As in Triton: a sequence ends after a second without a request.
_IDLE_US = 1_000_000
SEQUENCE_USED = tuple(
    f"sequence_batching.{name}"
    for name in (
        "max_sequence_idle_microseconds",
        "control_input",
        "direct.max_queue_delay_microseconds",
        "oldest.max_candidate_sequences",
        "oldest.max_queue_delay_microseconds",
        "state.input_name",
        "state.output_name",
        "state.data_type",
        "state.dims",
        "state.initial_state",
        "state.use_same_buffer_for_input_output",
        "iterative_sequence",
    )
)
_FLAGS = {"int32_false_true": "INT32", "fp32_false_true": "FP32", "bool_false_true": "BOOL"}


def sequence_values(config: pb.ModelConfig, path: str) -> dict[str, Any]:
    """Return the table's values. Raises ModelConfigError for what Triton would refuse too."""
    batching = config.sequence_batching
    oldest = batching.WhichOneof("strategy_choice") == "oldest"
    strategy = batching.oldest if oldest else batching.direct
    return {
        "strategy": "oldest" if oldest else "direct",
        "idle_timeout_s": (batching.max_sequence_idle_microseconds or _IDLE_US) / 1e6,
        "max_sequences": batching.oldest.max_candidate_sequences if oldest else max(config.max_batch_size, 1),
        "delay_ms": strategy.max_queue_delay_microseconds / 1000,
        "controls": [_control(each.name, control, path) for each in batching.control_input for control in each.control],
        "states": [_state(each, path) for each in batching.state],
    }


def _control(name: str, control: Any, path: str) -> dict[str, Any]:
    kind = pb.ModelSequenceBatching.Control.Kind.Name(control.kind).removeprefix("CONTROL_SEQUENCE_")
    values = {"kind": kind, "input": name}
    if kind == "CORRID":
        return {**values, "datatype": _datatype(control.data_type, name, path)}
    found = {datatype: getattr(control, field) for field, datatype in _FLAGS.items() if getattr(control, field)}
    if len(found) != 1 or len(next(iter(found.values()))) != 2:
        raise ModelConfigError(
            f"{path}: the control input '{shorten(name)}' needs the two values of {kind}, if false and if true, in one "
            f"of {', '.join(_FLAGS)}"
        )
    ((datatype, pair),) = found.items()
    return {**values, "datatype": datatype, "values": tuple(pair)}


def _state(state: Any, path: str) -> dict[str, Any]:
    name = shorten(state.input_name)
    # Without an initial state, Triton leaves the bytes of a new state undefined and makes free sizes 1. Here it is 0.
    values = {
        "input": state.input_name,
        "output": state.output_name,
        "datatype": _datatype(state.data_type, name, path),
        "shape": tuple(state.dims),
        "initial_shape": tuple(1 if size == -1 else size for size in state.dims),
    }
    if len(state.initial_state) > 1:
        raise ModelConfigError(f"{path}: the state '{name}' has more than one initial_state; keep one of them")
    for initial in state.initial_state:
        if initial.data_type != state.data_type:
            raise ModelConfigError(f"{path}: the initial_state of '{name}' has another data_type than the state itself")
        values["initial_shape"] = tuple(initial.dims)
        values["initial"] = initial.data_file
    return values


def _datatype(number: int, name: str, path: str) -> str:
    value = pb.DataType.DESCRIPTOR.values_by_number.get(number)
    datatype = value.name.removeprefix("TYPE_") if value else ""
    if datatype in ("", "INVALID"):
        raise ModelConfigError(f"{path}: '{shorten(name)}' in sequence_batching needs a data_type")
    return "BYTES" if datatype == "STRING" else datatype
