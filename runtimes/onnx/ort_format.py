"""Files in ONNX Runtime's own format (.ort), which is a flatbuffer in place of protobuf.

ONNX Runtime itself writes their graph as ONNX, so that the analysis of batching reads what it reads of other models.
"""

import os
import tempfile
from typing import Union

import onnxruntime as ort

from runtimes.dataflow.graph import Model
from runtimes.external_data import is_ort_format

from .analysis.file import of_bytes, of_file
from .extensions import register_operators

# Of a file whose graph is read: it is written as ONNX with all its weights, and loaded once more for that.
_MAX_BYTES = 1 << 27


def read_model(model: Union[str, bytes]) -> Model:
    """Read the graph of a file in either format, or of the bytes of an ONNX model. Raises what reading raises."""
    if isinstance(model, bytes):
        return of_bytes(model)
    if not is_ort_format(model):
        return of_file(model)
    size = os.path.getsize(model)
    if size > _MAX_BYTES:
        raise ValueError("it is in ONNX Runtime's own format and has %d bytes, over %d" % (size, _MAX_BYTES))
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.add_session_config_entry("session.load_model_format", "ORT")
    register_operators(settings)
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # the graph as it is
    with tempfile.TemporaryDirectory(prefix="modelport-graph-") as folder:
        settings.optimized_model_filepath = os.path.join(folder, "graph.onnx")
        ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        return of_file(settings.optimized_model_filepath)
