"""Run DL4J zips with the runtime: `PYTHON run.py FOLDER`, in the runtime's environment.

FOLDER contains NAME.zip, NAME.in.npz and cases.json: NAME → {"inputs": name → shape as model.toml would declare it,
"parameters": those of model.toml, and "exported" to run it like the exported file, without the
runtime's checks of inputs}. It writes NAME.out.npz, or NAME.txt with the message of the load error.
"""

import json
import sys
from pathlib import Path

import numpy as np

from runtimes.contract import LoadError, LoadOptions, TensorSpec
from runtimes.dl4j.runtime import load
from runtimes.onnx.runtime import OnnxModel


def main(folder):
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        declared = tuple(TensorSpec(name, "", tuple(shape)) for name, shape in case["inputs"].items())
        try:
            model = load(LoadOptions(str(folder / (name + ".zip")), declared, parameters=case["parameters"]))
        except LoadError as error:
            (folder / (name + ".txt")).write_text(str(error))
            continue
        with np.load(folder / (name + ".in.npz")) as inputs:
            signature = model.signatures["default"]
            # The input of a MultiLayerNetwork has no name.
            given = {spec.name: inputs[key] for spec, key in zip(signature.inputs, inputs.files, strict=True)}
            infer = OnnxModel.infer if case.get("exported") else type(model).infer
            answer = infer(model, given, (), "default")
            np.savez(
                folder / (name + ".out.npz"),
                **{f"out_{place}": answer[spec.name] for place, spec in enumerate(signature.outputs)},
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
