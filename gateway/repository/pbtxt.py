"""Reads config.pbtxt, Triton's model configuration, as a ModelToml.

An unsupported setting that would change answers makes the model UNAVAILABLE, with one sentence as the reason. Other
unsupported settings (hints, tuning) are ignored and listed in a warning, so that a repository for Triton works
unchanged. docs/triton.md has the table.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from pydantic import ValidationError

from gateway.config import explain
from gateway.environments.runtime import Runtime
from gateway.errors import shorten
from gateway.generated import model_config_pb2 as pb
from gateway.repository.model_toml import ModelConfigError, ModelToml, VersionPolicy
from gateway.repository.pbtxt_accelerators import USED as ACCELERATOR
from gateway.repository.pbtxt_accelerators import accelerator_values
from gateway.repository.pbtxt_sequence import SEQUENCE_USED, sequence_values
from runtimes.contract import DATATYPES

# Real files have a few KiB. Parsing takes about a second per MiB.
_MAX_BYTES = 1 << 18
_MAX_DELAY_US = 60_000_000
_shorten = partial(shorten, max_length=200)
# The parameters of Triton's backends for the number of threads of one inference.
_SWITCH = {"true": True, "1": True, "false": False, "0": False}
_THREADS = ("intra_op_thread_count", "INTRA_OP_THREAD_COUNT", "TF_NUM_INTRA_THREADS", "NUM_THREADS")
# What differs from the defaults of model.toml.
_DEFAULTS = {"device": ("auto",), "version_policy": VersionPolicy(latest=1)}
_USED = frozenset(
    [
        "name",
        "platform",
        "backend",
        "max_batch_size",
        "default_model_filename",
        "parameters",
        "instance_group",
        "input.name",
        "input.data_type",
        "input.format",
        "input.dims",
        "input.reshape.shape",
        "output.name",
        "output.data_type",
        "output.dims",
        "output.reshape.shape",
        "output.label_filename",
        "version_policy.latest.num_versions",
        "version_policy.all",
        "version_policy.specific.versions",
        "dynamic_batching.max_queue_delay_microseconds",
        "dynamic_batching.priority_levels",
        "dynamic_batching.default_priority_level",
        *SEQUENCE_USED,
        "ensemble_scheduling.step.model_name",
        "ensemble_scheduling.step.model_version",
        "ensemble_scheduling.step.input_map",
        "ensemble_scheduling.step.output_map",
        "response_cache.enable",
    ]
)
_OPTIONAL_USED = _USED | {"input.optional"}
_DECOUPLED = "model_transaction_policy.decoupled"
_PROGRAM_USED = _OPTIONAL_USED | {_DECOUPLED}
# What is ignored in an ensemble, and what holds in place of it.
_ENSEMBLE_NOTES = {
    "input.optional": "an input is optional if every step that uses it can do without it",
    "ensemble_scheduling.max_inflight_requests": "at most 16 answers are in progress between decoupled steps",
}
_GROUP_USED = frozenset({"name", "kind", "count", "gpus"})
# Keys of model.toml in errors → their names in config.pbtxt.
_KEYS = {
    "inputs": "input",
    "outputs": "output",
    "datatype": "data_type",
    "shape": "dims",
    "instances": "instance_group.count",
    "device": "instance_group.gpus",
    "latest": "latest.num_versions",
    "specific": "specific.versions",
    "threads": "parameters (threads)",
    "artifact": "default_model_filename",
    "steps": "ensemble_scheduling.step",
    "model": "model_name",
}
_TEXT = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""")
_QUOTED = re.compile("^'.*': ")
_FIELD = re.compile(r"\b([A-Za-z_]\w*)\s*[:{<\[]")


def read_config_pbtxt(
    file: Path, runtimes: Mapping[str, Runtime], any_name: bool = False
) -> tuple[ModelToml, list[str]]:
    """Return the file's settings, and the names of those that are ignored. Raises ModelConfigError.

    any_name  whether the name in it may differ from that of its folder
    """
    path = f"{file.parent.name}/{file.name}"
    config, unknown = _parse(file, path)
    if config.name and config.name != file.parent.name and not any_name:
        raise ModelConfigError(
            f"{path}: the name is '{_shorten(config.name)}', but the folder's is '{file.parent.name}'; make them equal"
        )
    toml, ignored = read_settings(config, path, runtimes)
    return toml, list(dict.fromkeys([*ignored, *unknown]))


def read_settings(config: pb.ModelConfig, path: str, runtimes: Mapping[str, Runtime]) -> tuple[ModelToml, list[str]]:
    """Return a configuration's settings, and the names of those that are ignored. Raises ModelConfigError.

    path  what errors call it
    """
    _check_served(config, path)
    steps = _steps(config, path)
    runtime = "" if steps else _runtime(config, path, runtimes)
    chosen = runtimes.get(runtime)
    is_program = chosen is not None and chosen.model_code
    has_optional = chosen is not None and chosen.optional_inputs
    # As in Triton, a pipeline is decoupled if one of its steps is, whatever this says.
    if config.model_transaction_policy.decoupled and not (is_program or steps):
        raise ModelConfigError(
            f"{path} asks for model_transaction_policy.decoupled, which only Python models can have; remove it if the "
            "model works without it"
        )
    parameters, ignored = _program_parameters(config, path) if is_program else _parameters(config, chosen)
    accelerators = accelerator_values(config, runtimes[runtime].extras if runtime in runtimes else ())
    if steps and config.response_cache.enable:
        ignored = [*ignored, "response_cache.enable (the models of its steps may have one)"]
    instances, ignored_groups = _instances(config.instance_group)
    values = {
        "artifact": config.default_model_filename,
        "runtime": runtime,
        "max_batch_size": config.max_batch_size if config.HasField("max_batch_size") else None,
        "inputs": [
            {**_tensor(config, tensor, path), **({"optional": True} if has_optional and tensor.optional else {})}
            for tensor in config.input
        ],
        "outputs": [_tensor(config, tensor, path) for tensor in config.output],
        "decoupled": (config.model_transaction_policy.decoupled and not steps) or None,
        "labels": {tensor.name: tensor.label_filename for tensor in config.output if tensor.label_filename},
        "queue_delay_ms": _delay_ms(config, path),
        **_priorities(config.dynamic_batching, path),
        "sequence": sequence_values(config, path) if config.HasField("sequence_batching") else None,
        "version_policy": _version_policy(config.version_policy, path),
        **instances,
        **parameters,
        **accelerators,
        "response_cache": (config.response_cache.enable and not steps) or None,
        "steps": steps,
    }
    # What the file does not set must not count as set: the console shows where each value comes from.
    values = {key: value for key, value in values.items() if value not in (None, "", [], {})}
    try:
        toml = ModelToml.model_validate(values).with_defaults(**_DEFAULTS)
    except ValidationError as error:
        raise ModelConfigError(explain(error, lambda _: path, ModelToml, _KEYS)) from None
    # Triton combines requests only if the file has dynamic_batching. Without it, max_batch_size only limits the rows of
    # a single request. sequence_batching combines those of several sequences.
    if config.max_batch_size > 0 and not config.WhichOneof("scheduling_choice"):
        toml = toml.without_batching_declared()
    known = _PROGRAM_USED if is_program else _OPTIONAL_USED if has_optional else _USED
    used = {*known, *([ACCELERATOR] if accelerators else []), *([_DECOUPLED] if steps else [])}
    unused = list(_unused(config, used))
    if steps:
        unused = [f"{name} ({_ENSEMBLE_NOTES[name]})" if name in _ENSEMBLE_NOTES else name for name in unused]
    return toml, [*unused, *ignored, *ignored_groups]


def _parse(file: Path, path: str) -> tuple[pb.ModelConfig, list[str]]:
    """Return the parsed message, and the names of fields in the file that the message does not have."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ModelConfigError(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > _MAX_BYTES:
        raise ModelConfigError(f"{path} is over the limit of {_MAX_BYTES} bytes for a model configuration")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ModelConfigError(f"{path} is not a model configuration: it is not UTF-8") from None
    try:
        return text_format.Parse(text, pb.ModelConfig()), []
    except (text_format.ParseError, ValueError, RecursionError) as error:
        first = _describe(error)  # perhaps a field of a newer Triton, which the next attempt ignores
    unknown = re.search(r'no field named "(\w+)"', first)
    try:
        config = text_format.Parse(text, pb.ModelConfig(), allow_unknown_field=True)
    except RecursionError:
        raise ModelConfigError(f"{path} is not a model configuration: it is nested too deeply") from None
    except (text_format.ParseError, ValueError) as error:
        # protobuf cannot skip every kind of unknown field; a list of messages, for example.
        reason = first if unknown else _describe(error)
        raise ModelConfigError(f"{path} is not a model configuration: {reason}") from None
    names = [name for name in _FIELD.findall(_TEXT.sub(" ", text)) if name not in _NAMES]
    return config, names or ([unknown[1]] if unknown else [])


def _describe(error: Exception) -> str:
    """Return protobuf's error as a line number and a reason, without the line's text, which protobuf repeats."""
    message = " ".join(str(error).split())
    position, _, reason = message.partition(" : ")
    line = position.partition(":")[0]
    return f"line {line}, {_shorten(_QUOTED.sub('', reason))}" if reason else _shorten(message)


def _check_served(config: pb.ModelConfig, path: str) -> None:
    """Raises ModelConfigError for settings without which requests would fail, or get wrong answers."""
    unsupported = {
        "sequence_batching.iterative_sequence": config.sequence_batching.iterative_sequence,
        "sequence_batching.state.use_growable_memory": any(
            state.use_growable_memory for state in config.sequence_batching.state
        ),
        "batch_input": bool(config.batch_input),
        "batch_output": bool(config.batch_output),
    }
    for name, is_set in unsupported.items():
        if is_set:
            raise ModelConfigError(
                f"{path} asks for {name}, which is not supported; remove it if the model works without it"
            )


def _steps(config: pb.ModelConfig, path: str) -> list[dict[str, Any]]:
    """Return the steps of an ensemble, in model.toml's form; none for other models. Raises ModelConfigError."""
    is_ensemble = "ensemble" in (config.platform, config.backend)
    if not is_ensemble and not config.HasField("ensemble_scheduling"):
        return []
    if not is_ensemble and (config.platform or config.backend):
        raise ModelConfigError(
            f"{path} has ensemble_scheduling, but its platform is not 'ensemble'; remove one of them"
        )
    if not config.ensemble_scheduling.step:
        raise ModelConfigError(f"{path} is an ensemble without steps; add an ensemble_scheduling with a step")
    steps = []
    for step in config.ensemble_scheduling.step:
        if step.model_version < -1:
            raise ModelConfigError(f"{path}: the model_version of a step must be positive, or -1 for the newest")
        if step.model_namespace:
            raise ModelConfigError(f"{path} asks for model_namespace, which is not supported; remove it")
        steps.append(
            {
                "model": step.model_name,
                "version": str(step.model_version) if step.model_version > 0 else "",
                "inputs": dict(step.input_map),
                "outputs": dict(step.output_map),
            }
        )
    return steps


def _runtime(config: pb.ModelConfig, path: str, runtimes: Mapping[str, Runtime]) -> str:
    """Return the runtime for the file's platform or backend, or "" if it has none.

    Both Triton's names and the names of the runtimes are accepted. Raises ModelConfigError.
    """
    requested: str = config.platform or config.backend
    by_triton_name: dict[str, str] = {}
    for runtime in runtimes.values():
        for file_format in runtime.formats:
            names = (file_format.platform, file_format.triton_backend) if file_format.triton_backend else ()
            for name in names:
                by_triton_name.setdefault(name, runtime.name)
    chosen = by_triton_name.get(requested, requested)
    if requested and chosen not in runtimes:
        known = ", ".join(sorted(by_triton_name))
        raise ModelConfigError(
            f"{path} asks for '{_shorten(requested)}', which is not supported; supported are {known}"
        )
    return chosen


def _tensor(config: pb.ModelConfig, tensor: Any, path: str) -> dict[str, Any]:
    """Return an input or output in model.toml's form, with the batch dimension, which Triton leaves out."""
    batch = (-1,) if config.max_batch_size > 0 else ()
    declared: dict[str, Any] = {"name": tensor.name}
    if tensor.data_type:
        datatype = _enum_name(tensor, "data_type", path).removeprefix("TYPE_")
        declared["datatype"] = "BYTES" if datatype == "STRING" else datatype
        if declared["datatype"] not in DATATYPES:
            raise ModelConfigError(f"{path}: '{_shorten(tensor.name)}' is TYPE_{datatype}, which is not supported")
    if tensor.dims:
        declared["shape"] = (*batch, *tensor.dims)
    if tensor.HasField("reshape"):
        declared["reshape"] = (*batch, *tensor.reshape.shape)
    if isinstance(tensor, pb.ModelInput) and tensor.format:
        declared["format"] = _enum_name(tensor, "format", path).removeprefix("FORMAT_")
    return declared


def _enum_name(tensor: Any, field: str, path: str) -> str:
    """Return the name of an enumeration's value. Raises ModelConfigError for a number that it does not have."""
    number: int = getattr(tensor, field)
    value = tensor.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number.get(number)
    if value is None:
        raise ModelConfigError(
            f"{path}: '{_shorten(tensor.name)}' has the {field} {number}, which Triton does not define; use a name"
        )
    name: str = value.name
    return name


def _delay_ms(config: pb.ModelConfig, path: str) -> float | None:
    delay: int = config.dynamic_batching.max_queue_delay_microseconds
    if delay > _MAX_DELAY_US:
        raise ModelConfigError(
            f"{path}: 'max_queue_delay_microseconds' is {delay}, but at most {_MAX_DELAY_US} is allowed"
        )
    return delay / 1000 if delay else None


def _priorities(batching: pb.ModelDynamicBatching, path: str) -> dict[str, Any]:
    """Return the priority settings. Like Triton, raises ModelConfigError if the default level does not exist."""
    levels, default = batching.priority_levels, batching.default_priority_level
    if not levels:
        return {}
    if not 1 <= default <= levels:
        raise ModelConfigError(
            f"{path}: 'default_priority_level' is {default}, but it must be one of the {levels} 'priority_levels'"
        )
    return {"priority_levels": levels, "default_priority_level": default}


def _version_policy(policy: pb.ModelVersionPolicy, path: str) -> dict[str, Any] | None:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return {"all": True}
    if choice == "specific":
        if not policy.specific.versions:
            raise ModelConfigError(
                f"{path}: the version_policy is specific, but names no versions; name some, or use all"
            )
        return {"specific": tuple(policy.specific.versions)}
    return {"latest": policy.latest.num_versions or 1} if choice else None


def _instances(groups: Collection[pb.ModelInstanceGroup]) -> tuple[dict[str, Any], list[str]]:
    """Return `instances` and `device`, and the names of ignored settings.

    model.toml has the same number of instances on each device, and cannot mix kinds of devices. If the groups differ
    in more than their GPUs, only the first one is used.
    """
    if not groups:
        return {}, []
    ignored = [f"instance_group.{name}" for group in groups for name in _unused(group, _GROUP_USED)]
    counts = Counter[str]()
    for group in groups:
        counts.update(_instances_by_device(group))
    if len(set(counts.values())) > 1 or (len(counts) > 1 and not all(":" in device for device in counts)):
        counts = _instances_by_device(next(iter(groups)))
        ignored.append("instance_group (all but the first)")
    devices = list(counts)
    device: str | list[str] = devices if ":" in devices[0] else devices[0]
    return {"device": device, "instances": counts[devices[0]]}, ignored


def _instances_by_device(group: pb.ModelInstanceGroup) -> Counter[str]:
    """Return model.toml's name of each device, and the number of instances on it."""
    count = group.count or 1
    if group.kind == pb.ModelInstanceGroup.KIND_CPU:
        return Counter({"cpu": count})
    if group.gpus:
        return Counter({f"cuda:{gpu}": count for gpu in group.gpus})
    return Counter({"cuda" if group.kind == pb.ModelInstanceGroup.KIND_GPU else "auto": count})


def _parameters(config: pb.ModelConfig, runtime: Runtime | None) -> tuple[dict[str, Any], list[str]]:
    """Return the supported parameters of Triton's backends, as keys of model.toml, and the names of the others."""
    supported: dict[str, Any] = {}
    ignored = []
    switches = runtime.triton_switches if runtime is not None else {}
    for name, parameter in sorted(config.parameters.items()):
        value = parameter.string_value
        if name in _THREADS and re.fullmatch(r"\d{1,9}", value, re.ASCII):
            if int(value):  # 0 means the framework's default
                supported["threads"] = int(value)
        elif name in switches and value.lower() in _SWITCH:
            supported.setdefault("parameters", {})[switches[name]] = _SWITCH[value.lower()]
        elif name != "INFERENCE_MODE" or value.lower() not in ("true", "1"):  # inference mode is the default here
            ignored.append(f"parameters.{_shorten(name)}")
    return supported, ignored


def _program_parameters(config: pb.ModelConfig, path: str) -> tuple[dict[str, Any], list[str]]:
    """Return all parameters, for a model that reads them itself. Raises ModelConfigError for a packed environment."""
    parameters = {name: parameter.string_value for name, parameter in config.parameters.items()}
    if "EXECUTION_ENV_PATH" in parameters:
        raise ModelConfigError(
            f"{path} names a packed environment (EXECUTION_ENV_PATH), which is not supported; name its packages in a "
            "requirements.txt next to model.py"
        )
    return {"parameters": parameters}, []


def _unused(message: Message, used: Collection[str], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of fields that are set in the message and are not in `used`."""
    for field, value in message.ListFields():
        path = prefix + field.name
        if path in used:
            continue
        if not any(name.startswith(path + ".") for name in used):
            yield path
            continue
        for part in value if _is_list(field, value) else [value]:
            yield from _unused(part, used, path + ".")


def _is_list(field: FieldDescriptor, value: Any) -> bool:
    return not isinstance(value, Message) and field.message_type is not None


def _names(messages: Iterable[Descriptor]) -> Iterator[str]:
    for message in messages:
        yield from message.fields_by_name
        yield from _names(message.nested_types)


_NAMES = frozenset(_names(pb.DESCRIPTOR.message_types_by_name.values()))
