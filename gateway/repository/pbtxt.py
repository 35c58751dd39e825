"""config.pbtxt: what Triton's own file says of a model, read as a ModelToml.

What would change answers and is not served makes the model UNAVAILABLE, in one sentence; what would
not (hints, tuning) is left out and named, so that a repository made for Triton runs as it is.
docs/triton.md has the table.
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
from gateway.repository.model_toml import ModelConfigError, ModelToml
from runtimes.contract import DATATYPES

# Real ones have a few KiB; reading goes at about 1 MiB a second.
_MAX_BYTES = 1 << 18
_MAX_DELAY_US = 60_000_000
_shorten = partial(shorten, most=200)
# Where Triton's backends look for the number of threads of one inference.
_THREADS = ("intra_op_thread_count", "INTRA_OP_THREAD_COUNT", "TF_NUM_INTRA_THREADS")
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
    ]
)
_GROUP_USED = frozenset({"name", "kind", "count", "gpus"})
# model.toml's keys in errors → what they are called here.
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
}
_TEXT = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""")
_QUOTED = re.compile("^'.*': ")
_FIELD = re.compile(r"\b([A-Za-z_]\w*)\s*[:{<\[]")


def read_config_pbtxt(file: Path, runtimes: Mapping[str, Runtime]) -> tuple[ModelToml, list[str]]:
    """The file's content, and the names in it that mean nothing here. Raises ModelConfigError."""
    place = f"{file.parent.name}/{file.name}"
    config, unknown = _parse(file, place)
    if config.name and config.name != file.parent.name:
        raise ModelConfigError(
            f"{place}: the name is '{_shorten(config.name)}', but the folder's is '{file.parent.name}'; make them equal"
        )
    _check_served(config, place)
    runtime = _runtime(config, place, runtimes)
    parameters, left = _parameters(config)
    instances, left_groups = _instances(config.instance_group)
    values = {
        "artifact": config.default_model_filename,
        "runtime": runtime,
        "max_batch_size": config.max_batch_size if config.HasField("max_batch_size") else None,
        "inputs": [_tensor(config, tensor, place) for tensor in config.input],
        "outputs": [_tensor(config, tensor, place) for tensor in config.output],
        "labels": {tensor.name: tensor.label_filename for tensor in config.output if tensor.label_filename},
        "queue_delay_ms": _delay_ms(config, place),
        **_priorities(config.dynamic_batching, place),
        "version_policy": _version_policy(config.version_policy, place),
        **instances,
        **parameters,
    }
    try:
        toml = ModelToml.model_validate(values)
    except ValidationError as error:
        raise ModelConfigError(explain(error, lambda _: place, ModelToml, _KEYS)) from None
    # Triton puts requests together only where the file says so: max_batch_size alone bounds the rows of one.
    if config.max_batch_size > 0 and not config.HasField("dynamic_batching"):
        toml = toml.limiting_only()
    return toml, list(dict.fromkeys([*_unused(config, _USED), *left, *left_groups, *unknown]))


def _parse(file: Path, place: str) -> tuple[pb.ModelConfig, list[str]]:
    """The message, and the names of fields that it lacks."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ModelConfigError(f"{place} cannot be read: {error.strerror}") from None
    if len(raw) > _MAX_BYTES:
        raise ModelConfigError(f"{place} is over the limit of {_MAX_BYTES} bytes; no model needs as many")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ModelConfigError(f"{place} is no model configuration: it is not UTF-8") from None
    try:
        return text_format.Parse(text, pb.ModelConfig()), []
    except (text_format.ParseError, ValueError, RecursionError) as error:
        first = _sentence(error)  # it may be a field of a newer Triton, which the next try leaves out
    unknown = re.search(r'no field named "(\w+)"', first)
    try:
        config = text_format.Parse(text, pb.ModelConfig(), allow_unknown_field=True)
    except RecursionError:
        raise ModelConfigError(f"{place} is no model configuration: it is nested too deep") from None
    except (text_format.ParseError, ValueError) as error:
        # protobuf cannot leave out everything: a list of messages, for example.
        why = first if unknown else _sentence(error)
        raise ModelConfigError(f"{place} is no model configuration: {why}") from None
    names = [name for name in _FIELD.findall(_TEXT.sub(" ", text)) if name not in _NAMES]
    return config, names or ([unknown[1]] if unknown else [])


def _sentence(error: Exception) -> str:
    """protobuf's reason without the text that it repeats."""
    told = " ".join(str(error).split())
    where, _, reason = told.partition(" : ")
    line = where.partition(":")[0]
    return f"line {line}, {_shorten(_QUOTED.sub('', reason))}" if reason else _shorten(told)


def _check_served(config: pb.ModelConfig, place: str) -> None:
    """Raises ModelConfigError for what would not be answered, or answered wrongly."""
    if config.platform == "ensemble" or config.HasField("ensemble_scheduling"):
        raise ModelConfigError(f"{place}: ensembles are not served; call the models of its steps one after the other")
    refused = {
        "sequence_batching": config.HasField("sequence_batching"),
        "model_transaction_policy.decoupled": config.model_transaction_policy.decoupled,
        "batch_input": bool(config.batch_input),
        "batch_output": bool(config.batch_output),
    }
    for name, is_there in refused.items():
        if is_there:
            raise ModelConfigError(
                f"{place} asks for {name}, which is not served; take it out if the model can do without"
            )


def _runtime(config: pb.ModelConfig, place: str, runtimes: Mapping[str, Runtime]) -> str:
    """Who serves the platform or backend that it asks for, "" if it asks for none: ours by Triton's names as well."""
    asked: str = config.platform or config.backend
    by_triton: dict[str, str] = {}
    for runtime in runtimes.values():
        for form in runtime.formats:
            for name in (form.platform, form.triton_backend) if form.triton_backend else ():
                by_triton.setdefault(name, runtime.name)
    found = by_triton.get(asked, asked)
    if asked and found not in runtimes:
        known = ", ".join(sorted(by_triton))
        raise ModelConfigError(f"{place} asks for '{_shorten(asked)}', which is not served; served are {known}")
    return found


def _tensor(config: pb.ModelConfig, tensor: Any, place: str) -> dict[str, Any]:
    """An input or output as model.toml declares it: with the batch dimension, which Triton leaves out."""
    batch = (-1,) if config.max_batch_size > 0 else ()
    found: dict[str, Any] = {"name": tensor.name}
    if tensor.data_type:
        datatype = _word(tensor, "data_type", place).removeprefix("TYPE_")
        found["datatype"] = "BYTES" if datatype == "STRING" else datatype
        if found["datatype"] not in DATATYPES:
            raise ModelConfigError(f"{place}: '{_shorten(tensor.name)}' is TYPE_{datatype}, which is not served")
    if tensor.dims:
        found["shape"] = (*batch, *tensor.dims)
    if tensor.HasField("reshape"):
        found["reshape"] = (*batch, *tensor.reshape.shape)
    if isinstance(tensor, pb.ModelInput) and tensor.format:
        found["format"] = _word(tensor, "format", place).removeprefix("FORMAT_")
    return found


def _word(tensor: Any, field: str, place: str) -> str:
    """What a value of an enumeration is called; the text may have a number in its place. Raises ModelConfigError."""
    number: int = getattr(tensor, field)
    found = tensor.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number.get(number)
    if found is None:
        raise ModelConfigError(
            f"{place}: '{_shorten(tensor.name)}' has the {field} {number}, which is none of Triton's; write its name"
        )
    name: str = found.name
    return name


def _delay_ms(config: pb.ModelConfig, place: str) -> float:
    delay: int = config.dynamic_batching.max_queue_delay_microseconds
    if delay > _MAX_DELAY_US:
        raise ModelConfigError(
            f"{place}: 'max_queue_delay_microseconds' is {delay}, but at most {_MAX_DELAY_US} are waited"
        )
    return delay / 1000


def _priorities(batching: pb.ModelDynamicBatching, place: str) -> dict[str, Any]:
    """Raises ModelConfigError where the default level is none of the levels, which Triton refuses too."""
    levels, default = batching.priority_levels, batching.default_priority_level
    if not levels:
        return {}
    if not 1 <= default <= levels:
        raise ModelConfigError(
            f"{place}: 'default_priority_level' is {default}, but it must be one of the {levels} 'priority_levels'"
        )
    return {"priority_levels": levels, "default_priority_level": default}


def _version_policy(policy: pb.ModelVersionPolicy, place: str) -> dict[str, Any]:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return {"all": True}
    if choice == "specific":
        if not policy.specific.versions:
            raise ModelConfigError(
                f"{place}: the version_policy is specific, but names no versions; name some, or use all"
            )
        return {"specific": tuple(policy.specific.versions)}
    return {"latest": policy.latest.num_versions or 1}


def _instances(groups: Collection[pb.ModelInstanceGroup]) -> tuple[dict[str, Any], list[str]]:
    """`instances` and `device`, and what was left out: all groups must be alike but for their cards."""
    if not groups:
        return {"device": "auto"}, []
    left = [f"instance_group.{name}" for group in groups for name in _unused(group, _GROUP_USED)]
    places = Counter[str]()
    for group in groups:
        places.update(_places(group))
    if len(set(places.values())) > 1 or (len(places) > 1 and not all(":" in place for place in places)):
        places = _places(next(iter(groups)))
        left.append("instance_group (all but the first)")
    devices = list(places)
    device: str | list[str] = devices if ":" in devices[0] else devices[0]
    return {"device": device, "instances": places[devices[0]]}, left


def _places(group: pb.ModelInstanceGroup) -> Counter[str]:
    """Devices in model.toml's words, and how many instances each gets."""
    count = group.count or 1
    if group.kind == pb.ModelInstanceGroup.KIND_CPU:
        return Counter({"cpu": count})
    if group.gpus:
        return Counter({f"cuda:{card}": count for card in group.gpus})
    return Counter({"cuda" if group.kind == pb.ModelInstanceGroup.KIND_GPU else "auto": count})


def _parameters(config: pb.ModelConfig) -> tuple[dict[str, Any], list[str]]:
    """Of the backends' parameters, what there is here too; and the names of the others."""
    found: dict[str, Any] = {}
    left = []
    for name, parameter in sorted(config.parameters.items()):
        value = parameter.string_value
        if name in _THREADS and re.fullmatch(r"\d{1,9}", value, re.ASCII):
            if int(value):  # 0 is: as many as the framework likes
                found["threads"] = int(value)
        elif name != "INFERENCE_MODE" or value.lower() not in ("true", "1"):  # which it always is here
            left.append(f"parameters.{_shorten(name)}")
    return found, left


def _unused(message: Message, used: Collection[str], prefix: str = "") -> Iterator[str]:
    """Dotted names of what is set in the message and is not among `used`."""
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
