"""execution_accelerators of config.pbtxt, which ask for an execution provider of ONNX Runtime, as model.toml has them.

Of Triton's, that is OpenVINO on the CPU. TensorRT and CUDA's options are hints for cards, and are ignored.
"""

from typing import Any

from gateway.generated import model_config_pb2 as pb

USED = "optimization.execution_accelerators.cpu_execution_accelerator.name"


def accelerator_values(config: pb.ModelConfig, runtime: str) -> dict[str, Any]:
    """Return the settings; {} if the configuration asks for nothing that is served. runtime: as in model.toml."""
    names = [each.name for each in config.optimization.execution_accelerators.cpu_execution_accelerator]
    on_card = any(group.kind == pb.ModelInstanceGroup.KIND_GPU for group in config.instance_group)
    if runtime != "onnx" or names != ["openvino"] or on_card:
        return {}
    return {"extras": ("openvino",), "parameters": {"execution_providers": ["OpenVINO"]}}
