"""One inference call in every form of the v2 protocol: JSON, binary, gRPC typed and raw."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gateway.front.dialects.v2.grpc_tensors import CONTENTS_FIELDS
from gateway.generated import open_inference_pb2 as pb
from runtimes.contract import DATATYPES, numpy_dtype
from runtimes.tensors import pack_bytes


@dataclass(frozen=True)
class Value:
    """`data` is flat; it need not fit the shape, nor the datatype."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any]

    def raw(self) -> bytes:
        if self.datatype == "BYTES":
            return pack_bytes(self.data)
        return np.array(self.data, numpy_dtype(self.datatype if self.datatype in DATATYPES else "FP32")).tobytes()


@dataclass(frozen=True)
class Call:
    model: str
    inputs: tuple[Value, ...] = ()
    version: str = ""
    outputs: tuple[str, ...] = ()
    id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"/v2/models/{self.model}" + (f"/versions/{self.version}" if self.version else "") + "/infer"


def as_json(call: Call) -> bytes:
    return json.dumps(_document(call, lambda value: {"data": value.data})).encode()


def as_binary(call: Call) -> tuple[bytes, dict[str, str]]:
    """Return body and headers. All outputs are requested as binary as well."""
    document = _document(call, lambda value: {"parameters": {"binary_data_size": len(value.raw())}})
    document["parameters"] = {**call.parameters, "binary_data_output": True}
    text = json.dumps(document).encode()
    body = text + b"".join(value.raw() for value in call.inputs)
    return body, {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream"}


def as_message(call: Call, raw: bool) -> pb.ModelInferRequest:
    """Raises ValueError or TypeError for what protobuf cannot say."""
    message = pb.ModelInferRequest(model_name=call.model, model_version=call.version, id=call.id)
    for name, setting in call.parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(setting)]
        setattr(message.parameters[name], kind, setting)
    for value in call.inputs:
        tensor = message.inputs.add(name=value.name, datatype=value.datatype, shape=value.shape)
        if raw:
            message.raw_input_contents.append(value.raw())
        else:
            getattr(tensor.contents, CONTENTS_FIELDS.get(value.datatype, "fp32_contents")).extend(value.data)
    for name in call.outputs:
        message.outputs.add(name=name)
    return message


def _document(call: Call, data: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "inputs": [
            {"name": value.name, "datatype": value.datatype, "shape": value.shape, **data(value)}
            for value in call.inputs
        ]
    }
    if call.outputs:
        document["outputs"] = [{"name": name} for name in call.outputs]
    if call.id:
        document["id"] = call.id
    if call.parameters:
        document["parameters"] = call.parameters
    return document
