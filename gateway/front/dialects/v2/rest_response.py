"""The Open Inference Protocol over REST: writes answers."""

from typing import Any

from gateway.codecs.json_tensors import json_values
from gateway.codecs.json_text import dumps
from gateway.domain.shared_memory import SharedMemory
from gateway.domain.types import InferResponse
from gateway.front.base.limits import Limits, check_json_answer
from gateway.front.dialects.v2.output_options import OutputOptions
from runtimes.tensors import Buffer


def write_response(
    response: InferResponse, options: OutputOptions, limits: Limits, shared: SharedMemory
) -> tuple[list[Buffer], int | None]:
    """Return the parts of the body, and the length of its JSON if tensors follow, otherwise None.

    JSON data is flat and in row-major order, as in answers of Triton and MLServer. BYTES elements are strings, or
    {"b64": "…"} if they are not UTF-8. Raises TooLarge, InvalidRequest.
    """
    ranges = options.region_ranges
    check_json_answer(
        [each for each in response.outputs if not options.is_binary(each.name) and each.name not in ranges],
        limits,
        flat=True,
    )
    sections: list[Buffer] = []
    outputs = []
    for tensor in response.outputs:
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if tensor.name in ranges:
            # No parameters describe this, because perf_analyzer would interpret any as a binary_data_size.
            shared.write(ranges[tensor.name], tensor.data)
        elif options.is_binary(tensor.name):
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
