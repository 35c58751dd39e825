"""What a step of an export is: all that the author of one needs to read.

A converter is a folder with `runtime.toml`, as a runtime's, and `convert.py`, which runs in the
environment that it describes. Each public function there is a step:

    def onnx_to_tflite(step: Step) -> None

It reads one artifact and writes another that computes the same, with the interface that the step
names: the same inputs and outputs, in this order, by these names as far as the format can, with
these datatypes and this layout. Whether it does is found out afterwards, by running it: a step need
not check its own work. It raises Refused, or anything else, when it cannot; what it prints is shown
to the user when it fails.
"""

import importlib
import sys
import types
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from runtimes.contract import LoadError, TensorSpec
from runtimes.wire import specs_from_json


class Refused(LoadError):
    """This tool cannot convert this model. Its text is one sentence for the user."""


class Step(NamedTuple):
    """One step.

    source       the artifact, as its runtime loads it: a file or a folder
    destination  a file or folder that does not exist yet
    inputs       of the model as it is served; every shape is known, -1 for what is open
    outputs      likewise
    signature    the served signature's name, where the source has several
    shapes       input → shape with nothing open, for formats or tools that need it: a batch of one
    examples     files (npz) of inputs that the original answers: for tracing
    calibration  files (npz) of inputs as they are in use: for quantisation
    options      what this step alone understands
    parameters   the model's [parameters], as its runtime gets them
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
        """Inputs for one run of the model, a batch of one: the first example's."""
        with np.load(self.examples[0], allow_pickle=False) as file:
            return {spec.name: file[spec.name] for spec in self.inputs}


def convert(job: Dict[str, Any]) -> Dict[str, Any]:
    """Do one step; {"notes": sentences for the report}. Raises what the step raises."""
    package = types.ModuleType("modelport_converter")
    package.__path__ = [job["folder"]]  # type: ignore[attr-defined]
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
