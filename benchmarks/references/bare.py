"""Runs a bare framework in a loop, in the environment of its runtime and without any code of the gateway.

    PYTHON benchmarks/references/bare.py onnx|openvino|torchscript ARTIFACT [SIZE ...]

For each line "ROWS TIMES" on standard input, it makes TIMES calls with ROWS rows of float32 of the given SIZEs (by
default 3 224 224), and prints the CPU seconds and the elapsed seconds that the calls took.
"""

import sys
import time

import numpy as np


def load_onnx(path):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda array: session.run(None, {"x": array})


def load_openvino(path):
    import openvino as ov

    how = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    request = ov.Core().compile_model(path, "CPU", how).create_infer_request()
    return lambda array: request.infer({0: array}, share_inputs=True)


def load_torchscript(path):
    import torch

    torch.set_num_threads(1)
    module = torch.jit.load(path).eval()

    def run(array):
        with torch.inference_mode():
            return module(torch.from_numpy(array)).numpy()

    return run


def main():
    kind, path, *sizes = sys.argv[1:]
    shape = [int(size) for size in sizes] or [3, 224, 224]
    run = {"onnx": load_onnx, "openvino": load_openvino, "torchscript": load_torchscript}[kind](path)
    images = np.random.default_rng(0).normal(size=(64, *shape)).astype(np.float32)
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
