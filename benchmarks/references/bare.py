"""A framework alone, in a loop: started in a runtime's own environment, with nothing of the gateway's.

    PYTHON benchmarks/references/bare.py onnx|torchscript ARTIFACT

Each line on its standard input is "ROWS TIMES": so many calls with so many rows of float32 images. It
answers each with the seconds of CPU, and those on the clock, that they took.
"""

import sys
import time

import numpy as np

SHAPE = (3, 224, 224)


def load_onnx(path):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda array: session.run(None, {"x": array})


def load_torchscript(path):
    import torch

    torch.set_num_threads(1)
    module = torch.jit.load(path).eval()

    def run(array):
        with torch.inference_mode():
            return module(torch.from_numpy(array)).numpy()

    return run


def main():
    kind, path = sys.argv[1:]
    run = {"onnx": load_onnx, "torchscript": load_torchscript}[kind](path)
    images = np.random.default_rng(0).normal(size=(64, *SHAPE)).astype(np.float32)
    run(images[:1])
    print("ready", flush=True)
    for line in sys.stdin:
        rows, times = map(int, line.split())
        cpu, clock = time.process_time(), time.perf_counter()
        for _ in range(times):
            run(images[:rows])
        print(time.process_time() - cpu, time.perf_counter() - clock, flush=True)


if __name__ == "__main__":
    main()
