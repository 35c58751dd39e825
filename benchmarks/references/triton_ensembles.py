"""A real tritonserver with ensembles, from the wheel nvidia-pytriton. ONNX Runtime runs the steps in Python backends.

It needs a separate environment: python -m venv triton && triton/bin/pip install nvidia-pytriton onnxruntime

    triton/bin/python benchmarks/references/triton_ensembles.py FOLDER '{"PIPELINE": ["STEP", "STEP"]}'

FOLDER/STEP/1/model.onnx has one input, "x", and one output, "y". It prints its HTTP port when all models are ready.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import onnxruntime as ort
from triton_repository import serve

STEP = """
import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = {threads}, 1
        self.session = ort.InferenceSession("{path}", options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        answers = []
        for request in requests:
            array = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            y, = self.session.run(["y"], dict(x=array))
            answers.append(pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("y", y)]))
        return answers
"""


def described(path):
    """Return the dimensions of a model's input and output, with -1 where they are free."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    every = session.get_inputs()[0], session.get_outputs()[0]
    return [[each if isinstance(each, int) else -1 for each in tensor.shape] for tensor in every]


def tensors(takes, gives):
    return "".join(
        f'{kind} [{{ name: "{name}" data_type: TYPE_FP32 dims: {json.dumps(dims)} }}]\n'
        for kind, name, dims in (("input", "x", takes), ("output", "y", gives))
    )


def write_repository(folder, source, pipelines):
    threads, found = len(os.sched_getaffinity(0)), {}
    for step in sorted({step for steps in pipelines.values() for step in steps}):
        model = source / step / "1" / "model.onnx"
        found[step] = described(model)
        (folder / step / "1").mkdir(parents=True)
        (folder / step / "1" / "model.py").write_text(STEP.format(threads=threads, path=model))
        (folder / step / "config.pbtxt").write_text('backend: "python"\n' + tensors(*found[step]))
    for name, steps in pipelines.items():
        (folder / name / "1").mkdir(parents=True)
        names = ["x", *(f"t{number}" for number in range(1, len(steps))), "y"]
        written = ",\n".join(
            f'{{ model_name: "{step}" model_version: -1 input_map {{ key: "x" value: "{before}" }} '
            f'output_map {{ key: "y" value: "{after}" }} }}'
            for step, before, after in zip(steps, names, names[1:], strict=False)
        )
        config = 'platform: "ensemble"\n' + tensors(found[steps[0]][0], found[steps[-1]][1])
        (folder / name / "config.pbtxt").write_text(f"{config}ensemble_scheduling {{ step [\n{written}\n] }}\n")


def main():
    source, pipelines = Path(sys.argv[1]).absolute(), json.loads(sys.argv[2])
    with tempfile.TemporaryDirectory() as repository:
        write_repository(Path(repository), source, pipelines)
        serve(repository)


if __name__ == "__main__":
    main()
