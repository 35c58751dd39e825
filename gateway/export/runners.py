"""The runtimes in which exports are verified: those that their users will have, as far as this machine can."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Runner(NamedTuple):
    """Something that runs exports of one format.

    environment  a runtime's, or a converter's with a runtime.py
    required     whether a model that it cannot run is no export
    parameters   the runtime's [parameters]
    """

    name: str
    environment: str
    backend: str = ""
    required: bool = True
    parameters: Mapping[str, object] = MappingProxyType({})


RUNNERS = {
    "tflite": (Runner("LiteRT", "tflite"),),
    "executorch": (Runner("ExecuTorch", "executorch"),),
    # With all default optimizers, as other programs run the file: see onnx_file.py.
    "onnx": (Runner("ONNX Runtime", "onnx", parameters={"disabled_optimizers": []}),),
    # The backends of a page that also exist in node. Not every kernel exists in wasm.
    "tfjs": (
        Runner("TensorFlow.js cpu", "export-web", "cpu"),
        Runner("TensorFlow.js wasm", "export-web", "wasm", required=False),
    ),
}
