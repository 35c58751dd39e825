"""Files in ONNX Runtime's own format (.ort), which is a flatbuffer in place of protobuf.

ONNX Runtime itself writes their graph as ONNX, so that the analysis of batching reads what it reads of other models.
"""

import os
import tempfile
from typing import Union

import onnxruntime as ort

from runtimes.dataflow.graph import Model

from .analysis.file import of_bytes, of_file

_IDENTIFIER = b"ORTM"  # at byte 4, where flatbuffers have the identifier of their format


def is_ort_format(path: str) -> bool:
    """Raises OSError."""
    with open(path, "rb") as file:
        return file.read(8)[4:] == _IDENTIFIER


def read_model(model: Union[str, bytes]) -> Model:
    """Read the graph of a file in either format, or of the bytes of an ONNX model. Raises what reading raises."""
    if isinstance(model, bytes):
        return of_bytes(model)
    if not is_ort_format(model):
        return of_file(model)
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.add_session_config_entry("session.load_model_format", "ORT")
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # the graph as it is
    with tempfile.TemporaryDirectory(prefix="modelport-graph-") as folder:
        settings.optimized_model_filepath = os.path.join(folder, "graph.onnx")
        ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        return of_file(settings.optimized_model_filepath)
