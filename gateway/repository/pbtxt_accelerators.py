"""execution_accelerators of config.pbtxt, which ask for an execution provider of ONNX Runtime, as model.toml has them.

Served is one accelerator on the CPU for which the runtime has an extra of that name, as ONNX Runtime's has for
OpenVINO. TensorRT and CUDA's options are hints for cards, and are ignored.
"""

from collections.abc import Collection
from typing import Any

from gateway.generated import model_config_pb2 as pb

USED = "optimization.execution_accelerators.cpu_execution_accelerator.name"


def accelerator_values(config: pb.ModelConfig, extras: Collection[str]) -> dict[str, Any]:
    """Return the settings; {} if the configuration asks for nothing that is served. extras: those of its runtime."""
    names = [each.name for each in config.optimization.execution_accelerators.cpu_execution_accelerator]
    on_card = any(group.kind == pb.ModelInstanceGroup.KIND_GPU for group in config.instance_group)
    if len(names) != 1 or names[0] not in extras or on_card:
        return {}
    return {"extras": tuple(names), "parameters": {"execution_providers": names}}
