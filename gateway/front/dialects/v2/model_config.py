"""The model_configuration extension: how a model is served, told as Triton's config. The same for REST and gRPC."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from gateway.domain.control import GetConfiguration
from gateway.domain.types import ModelStatus, unavailable
from gateway.engine.protocol import Engine
from gateway.front.dialects.v2.metadata import model_metadata
from gateway.generated import model_config_pb2 as pb

_BY_CARD, _BY_CPU = pb.ModelInstanceGroup.KIND_GPU, pb.ModelInstanceGroup.KIND_CPU


async def read_configuration(engine: Engine, name: str, version: str = "") -> pb.ModelConfig:
    """Made from what is really served, whatever file said so. Raises NotFound; Unavailable before it has loaded."""
    status = engine.model(name, version)
    if status.signature() is None:
        raise unavailable(status)
    told = await engine.control(GetConfiguration(status.name, status.version))
    # Triton has no other batch dimension than the first: a model with one is told as if it had none.
    batched = status.max_batch_size > 0 and status.batch_dim == 0
    config = pb.ModelConfig(
        name=status.name,
        platform=status.platform,
        backend=told["backend"],
        max_batch_size=status.max_batch_size if batched else 0,
        version_policy=_version_policy(told["version_policy"]),
        instance_group=[_instance_group(status, told["instances"], told["devices"])],
        default_model_filename=told["artifact"],
        # Both off, and told all the same: clients look for them.
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=False),
        response_cache=pb.ModelResponseCache(enable=False),
    )
    if batched:
        config.dynamic_batching.max_queue_delay_microseconds = round(told["queue_delay_ms"] * 1000)
    config.parameters["batching"].string_value = told["batching"]
    metadata = model_metadata(engine, status.name, status.version)
    for tensor in metadata["inputs"]:
        added: Any = config.input.add(format=f"FORMAT_{told['formats'].get(tensor['name']) or 'NONE'}")
        _describe(added, tensor, told["reshape"]["inputs"], batched)
    for tensor in metadata["outputs"]:
        added = config.output.add(label_filename=told["labels"].get(tensor["name"], ""))
        _describe(added, tensor, told["reshape"]["outputs"], batched)
    return config


def _describe(made: Any, tensor: Mapping[str, Any], reshapes: Mapping[str, Sequence[int]], batched: bool) -> None:
    name, datatype = tensor["name"], tensor["datatype"] or "INVALID"
    made.name = name
    made.data_type = pb.DataType.Value(f"TYPE_{'STRING' if datatype == 'BYTES' else datatype}")
    made.dims.extend(tensor["shape"][batched:])
    if name in reshapes:
        made.reshape.shape.extend(reshapes[name][batched:])
        made.reshape.SetInParent()  # an empty shape is one, too


def _instance_group(status: ModelStatus, count: int, places: Sequence[str]) -> pb.ModelInstanceGroup:
    cards = [int(place.partition(":")[2]) for place in places if ":" in place]
    kind = _BY_CARD if cards else _BY_CPU
    return pb.ModelInstanceGroup(name=f"{status.name}_0", kind=kind, count=count, gpus=cards)


def _version_policy(told: Mapping[str, Any]) -> pb.ModelVersionPolicy:
    policy = pb.ModelVersionPolicy()
    if told["all"]:
        policy.all.SetInParent()
    elif told["specific"]:
        policy.specific.versions.extend(told["specific"])
    else:
        policy.latest.num_versions = told["latest"] or 1
    return policy


def as_json(message: Message) -> dict[str, Any]:
    """The message as Triton writes it: protobuf's own names, defaults too, and 64-bit integers as numbers."""
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
