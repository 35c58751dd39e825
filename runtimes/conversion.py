"""The interface of an export step: the only file that the author of one needs to read.

A converter is a folder with a `runtime.toml`, as a runtime has one, and a `convert.py`, which runs in the environment
that it describes. Each public function in convert.py is a step:

    def onnx_to_tflite(step: Step) -> None

A step reads one artifact and writes another that computes the same and has the same inputs and outputs as `step`: in
the same order, with the same datatypes and layout, and with the same names as far as the format allows. The result is
verified afterwards by running it, so a step need not check its own work. If it fails, it raises Refused or any other
exception. What it prints is shown to the user if it fails.
"""

import importlib
import sys
import types
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from runtimes import array_files
from runtimes.contract import LoadError, TensorSpec
from runtimes.wire import specs_from_json


class Refused(LoadError):
    """This tool cannot convert this model. The message is one sentence for the user."""


class Step(NamedTuple):
    """The argument of a step.

    source       the artifact, as its runtime loads it: a file or a folder
    destination  a file or folder that does not exist yet
    inputs       of the model as it is served; all shapes are known, with -1 for variable sizes
    outputs      likewise
    signature    the name of the served signature, if the source has several
    shapes       input → fixed shape of a batch of one, for formats or tools that need it
    examples     files (npz) of inputs that the original accepts, for tracing
    calibration  files (npz) of realistic inputs, for quantization
    options      settings that only this step understands
    parameters   [parameters] of the model, as its runtime gets them
    """

    source: str
    destination: str
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    signature: str
    shapes: Dict[str, Tuple[int, ...]]
    examples: List[str]
    calibration: List[str]
    options: Dict[str, Any]
    parameters: Dict[str, Any]

    def example(self) -> Dict[str, np.ndarray]:
        """Return the inputs of the first example, which is a batch of one."""
        arrays = array_files.read(self.examples[0])
        return {spec.name: arrays[spec.name] for spec in self.inputs}


def refuse_shared(inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Raise Refused if an output that is not an input has the name of one: a graph of ONNX has each name only once."""
    for name in outputs:
        if name in inputs:
            raise Refused(
                "ONNX cannot have an output with the name of an input, as '%s': rename one of them in the model" % name
            )


def convert(job: Dict[str, Any]) -> Dict[str, Any]:
    """Run one step and return {"notes": sentences for the report}. Raises what the step raises."""
    package = types.ModuleType("modelport_converter")
    package.__path__ = [job["folder"]]
    sys.modules[package.__name__] = package
    module = importlib.import_module("modelport_converter.convert")
    step = Step(
        source=job["source"],
        destination=job["destination"],
        inputs=specs_from_json(job["inputs"]),
        outputs=specs_from_json(job["outputs"]),
        signature=job["signature"],
        shapes={name: tuple(shape) for name, shape in job["shapes"].items()},
        examples=job["examples"],
        calibration=job["calibration"],
        options=job["options"],
        parameters=job["parameters"],
    )
    notes = getattr(module, job["function"])(step)
    return {"notes": list(notes or ())}
