"""Post-processes a .tflite: quantization by ai-edge-quantizer, adaptation to LiteRT.js, and metadata."""

from typing import Dict, Iterator

import numpy as np
from ai_edge_quantizer import quantizer, recipe
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.qtyping import TFLOperationName
from modelport_converter.litertjs import fit_litertjs
from modelport_converter.metadata import add_metadata

from runtimes.conversion import Step

__all__ = ["add_metadata", "fit_litertjs", "quantize_tflite"]


def quantize_tflite(step: Step) -> None:
    """options: quantize ("float16", "dynamic", "int8")."""
    mode = step.options["quantize"]
    tool = quantizer.Quantizer(step.source)
    if mode == "float16":
        tool.add_weight_only_config(
            regex=".*", operation_name=TFLOperationName.ALL_SUPPORTED, num_bits=16,
            algorithm_key=AlgorithmName.FLOAT_CASTING,
        )  # fmt: skip
        result = tool.quantize()
    elif mode == "dynamic":
        tool.load_quantization_recipe(recipe.dynamic_wi8_afp32())
        result = tool.quantize()
    else:
        tool.load_quantization_recipe(recipe.static_wi8_ai8())
        for operation in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):  # these keep the served datatypes
            tool.update_quantization_recipe(".*", operation, algorithm_key=AlgorithmName.NO_QUANTIZE)
        result = tool.quantize(tool.calibrate({"serving_default": list(_rows(step))}))
    result.export_model(step.destination, overwrite=True)


def _rows(step: Step) -> Iterator[Dict[str, np.ndarray]]:
    """Yield the calibration data, row by row for inputs whose batch size in the file is 1."""
    rows = {spec.name: step.shapes[spec.name][:1] for spec in step.inputs}
    for file in step.calibration:
        with np.load(file, allow_pickle=False) as arrays:
            data = {spec.name: arrays[spec.name] for spec in step.inputs}
        count = len(data[step.inputs[0].name]) if rows[step.inputs[0].name] else 1
        for row in range(count):
            yield {name: array[row : row + 1] if rows[name] == (1,) else array for name, array in data.items()}
