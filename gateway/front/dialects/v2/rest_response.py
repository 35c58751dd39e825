"""The Open Inference Protocol over REST: InferResponse -> a response's bytes."""

from typing import Any

from gateway.codecs.json_tensors import json_values
from gateway.codecs.json_text import dumps
from gateway.domain.shared_memory import SharedMemory
from gateway.domain.types import InferResponse
from gateway.front.base.limits import Limits, check_json_answer
from gateway.front.dialects.v2.rest_request import Wanted
from runtimes.tensors import Buffer


def write_response(
    response: InferResponse, wanted: Wanted, limits: Limits, shared: SharedMemory
) -> tuple[list[Buffer], int | None]:
    """The body's parts, and the length of its JSON part where tensors follow it (None: it is JSON alone).

    JSON data is flat and row-major, as Triton and MLServer answer. BYTES elements are strings, or
    {"b64": "…"} where they are not UTF-8. Raises TooLarge, InvalidRequest.
    """
    as_json = [each for each in response.outputs if not wanted.as_binary(each.name) and each.name not in wanted.places]
    check_json_answer(as_json, limits, flat=True)
    sections: list[Buffer] = []
    outputs = []
    for tensor in response.outputs:
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if tensor.name in wanted.places:
            # No parameters tell so: perf_analyzer takes any for a binary_data_size.
            shared.write(wanted.places[tensor.name], tensor.data)
        elif wanted.as_binary(tensor.name):
            output["parameters"] = {"binary_data_size": len(tensor.data)}
            sections.append(tensor.data)
        else:
            output["data"] = json_values(tensor, flat=True)
        outputs.append(output)
    document: dict[str, Any] = {"model_name": response.model, "model_version": response.version, "outputs": outputs}
    if response.id:
        document["id"] = response.id
    text = dumps(document)
    return [text, *sections], len(text) if sections else None
