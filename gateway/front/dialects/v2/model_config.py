"""The model_configuration extension: describes how a model is served as Triton's ModelConfig, for REST and gRPC."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from gateway.domain.control import GetConfiguration
from gateway.domain.identity import Identity
from gateway.domain.types import ModelStatus, unavailable
from gateway.engine.protocol import Engine
from gateway.front.base.loading import loaded_model
from gateway.front.dialects.v2.metadata import model_metadata
from gateway.front.dialects.v2.sequence_batching import data_type, sequence_batching
from gateway.generated import model_config_pb2 as pb

_KIND_GPU, _KIND_CPU = pb.ModelInstanceGroup.KIND_GPU, pb.ModelInstanceGroup.KIND_CPU


async def read_configuration(
    engine: Engine, name: str, version: str = "", identity: Identity | None = None
) -> pb.ModelConfig:
    """Describe a model as it is served, whichever file configured it.

    Raises NotFound, and Unavailable before it has been loaded.
    """
    status = await loaded_model(engine, name, version, identity)
    signature = status.signature()
    if signature is None:
        raise unavailable(status)
    served = await engine.control(GetConfiguration(status.name, status.version))
    # In Triton, the batch dimension is always the first, so a model with another one is described as not batched.
    batched = status.max_batch_size > 0 and status.batch_dim == 0
    config = pb.ModelConfig(
        name=status.name,
        platform=status.platform,
        backend=served["backend"],
        max_batch_size=status.max_batch_size if batched else 0,
        version_policy=_version_policy(served["version_policy"]),
        default_model_filename=served["artifact"],
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=status.decoupled),
        # Clients look for it, also if it is off.
        response_cache=pb.ModelResponseCache(enable=status.response_cache is not None),
    )
    for step in status.steps:
        number = int(step.version) if step.version.isdigit() else -1  # Triton has no labels here
        described = config.ensemble_scheduling.step.add(model_name=step.model, model_version=number)
        described.input_map.update(step.inputs)
        described.output_map.update(step.outputs)
    if not status.steps:
        config.instance_group.append(_instance_group(status, served["instances"], served["devices"]))
    if served["sequence"]:
        config.sequence_batching.CopyFrom(sequence_batching(served["sequence"]))
    elif batched and not status.steps:
        config.dynamic_batching.max_queue_delay_microseconds = round(served["queue_delay_ms"] * 1000)
    config.parameters["batching"].string_value = served["batching"]
    if served["execution"]:
        config.parameters["execution"].string_value = served["execution"]
    if served["memory_limit"]:
        config.parameters["memory_limit"].string_value = str(served["memory_limit"])  # bytes
    if signature.json:
        config.parameters["json_outputs"].string_value = json.dumps(signature.json)
    metadata = model_metadata(engine, status.name, status.version)
    for tensor in metadata["inputs"]:
        tensor_format = f"FORMAT_{served['formats'].get(tensor['name']) or 'NONE'}"
        added: Any = config.input.add(format=tensor_format, optional=tensor["name"] in signature.optional)
        _describe(added, tensor, served["reshape"]["inputs"], batched)
    for spec in signature.unbatched:
        _describe(
            config.input.add(optional=True),
            {**spec._asdict(), "shape": [-1] if spec.shape is None else spec.shape},
            {},
            False,
        )
    for tensor in metadata["outputs"]:
        added = config.output.add(label_filename=served["labels"].get(tensor["name"], ""))
        _describe(added, tensor, served["reshape"]["outputs"], batched)
    return config


def _describe(described: Any, tensor: Mapping[str, Any], reshapes: Mapping[str, Sequence[int]], batched: bool) -> None:
    name, datatype = tensor["name"], tensor["datatype"] or "INVALID"
    described.name = name
    described.data_type = data_type(datatype)
    described.dims.extend(tensor["shape"][batched:])
    if name in reshapes:
        described.reshape.shape.extend(reshapes[name][batched:])
        described.reshape.SetInParent()  # an empty shape is a shape as well


def _instance_group(status: ModelStatus, count: int, devices: Sequence[str]) -> pb.ModelInstanceGroup:
    gpus = [int(device.partition(":")[2]) for device in devices if ":" in device]
    kind = _KIND_GPU if gpus else _KIND_CPU
    return pb.ModelInstanceGroup(name=f"{status.name}_0", kind=kind, count=count, gpus=gpus)


def _version_policy(declared: Mapping[str, Any]) -> pb.ModelVersionPolicy:
    policy = pb.ModelVersionPolicy()
    if declared["all"]:
        policy.all.SetInParent()
    elif declared["specific"]:
        policy.specific.versions.extend(declared["specific"])
    else:
        policy.latest.num_versions = declared["latest"] or 1
    return policy


def as_json(message: Message) -> dict[str, Any]:
    """Return the message as Triton writes it: with protobuf field names, defaults, and 64-bit integers as numbers."""
    return {
        field.name: _json_field(field, getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _json_field(field: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): as_json(each) if isinstance(each, Message) else each for key, each in value.items()}
    if isinstance(value, Message):
        return as_json(value)
    if isinstance(value, str | int | float):
        return value if field.enum_type is None else field.enum_type.values_by_number[value].name
    return [_json_field(field, each) for each in value]
