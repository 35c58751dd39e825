"""Runs an ONNX model with two threads, a few milliseconds between two runs, and nothing else.

    python -m benchmarks.references.waiting_threads FILE SIDE MODE RUNS

MODE is `spin` (ONNX Runtime's default), `stop` (spin only during a run) or `sleep`. It prints the median seconds of a
run, and the CPU seconds of all threads per run.
"""

import statistics
import sys
import time

import numpy as np
import onnxruntime

_OPTIONS = {
    "spin": {},
    "stop": {"session.force_spinning_stop": "1"},
    "sleep": {"session.intra_op.allow_spinning": "0"},
}
_PAUSE = 0.004  # about as long as threads spin


def main() -> None:
    path, side, mode, runs = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 2
    for name, value in _OPTIONS[mode].items():
        settings.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    feed = {"x": np.zeros((1, 3, side, side), np.float32)}
    for _ in range(20):
        session.run(None, feed)
    elapsed = []
    before = time.process_time()
    for _ in range(runs):
        start = time.perf_counter()
        session.run(None, feed)
        elapsed.append(time.perf_counter() - start)
        time.sleep(_PAUSE)
    print(statistics.median(elapsed), (time.process_time() - before) / runs)


if __name__ == "__main__":
    main()
