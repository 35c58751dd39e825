"""Three steps of ONNX Runtime in three processes that share memory, and nothing else: what a pipeline cannot avoid.

    PYTHON benchmarks/references/step_chain.py INPUT_SIZES MODEL.onnx ...

INPUT_SIZES is a shape such as 1x3x37x37. Every process has one session with one thread, reads its input where the one
before wrote it, and writes its output into its own block, without checks and without frames. A byte in a pipe says that
the next one may begin. The input lies ready in memory. For each line "TIMES" on standard input, it prints the CPU
seconds of all processes, and the elapsed seconds, of that many requests.
"""

import mmap
import os
import sys
import time

import numpy as np
import onnxruntime as ort

BLOCK = 1 << 23
SMALL = 1 << 18  # bytes that are copied, because that costs less than to bind them


def session_of(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def step(path, shape, source, target, begin, done):
    """Run requests until `begin` is closed. Answer a "?" with the CPU time of this process so far."""
    session, options = session_of(path), ort.RunOptions()
    array = np.frombuffer(source, np.float32, int(np.prod(shape))).reshape(shape)
    (output,) = session.run(["y"], {"x": array})
    into = np.frombuffer(target, np.float32, output.size).reshape(output.shape)
    into[:] = output
    os.write(done, np.array(output.shape, np.int64).tobytes())
    while True:
        asked = os.read(begin, 1)
        if not asked:
            return
        if asked == b"?":
            os.write(done, np.float64(time.process_time()).tobytes())
            continue
        if into.nbytes < SMALL:
            into[:] = session.run(["y"], {"x": array}, options)[0]
        else:
            binding = session.io_binding()
            binding.bind_input("x", "cpu", 0, np.float32, array.shape, array.ctypes.data)
            binding.bind_output("y", "cpu", 0, np.float32, into.shape, into.ctypes.data)
            session.run_with_iobinding(binding, options)
        os.write(done, b"x")


def main():
    shape = [int(each) for each in sys.argv[1].split("x")]
    blocks = [mmap.mmap(-1, BLOCK) for _ in sys.argv[1:]]
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    np.frombuffer(blocks[0], np.float32, image.size)[:] = image.ravel()
    pipes = []
    for path, source, target in zip(sys.argv[2:], blocks, blocks[1:], strict=False):
        begin, done = os.pipe(), os.pipe()
        pipes.append((begin[1], done[0]))
        if os.fork() == 0:
            os.close(begin[1])
            for other, _ in pipes[:-1]:
                os.close(other)  # else it would not see that they are closed
            step(path, shape, source, target, begin[0], done[1])
            os._exit(0)
        os.close(begin[0])
        shape = np.frombuffer(os.read(done[0], 64), np.int64).tolist()

    def cpu():
        total = time.process_time()
        for begin, done in pipes:
            os.write(begin, b"?")
            total += np.frombuffer(os.read(done, 8), np.float64)[0]
        return total

    print("ready", flush=True)
    for line in sys.stdin:
        before, clock = cpu(), time.perf_counter()
        for _ in range(int(line)):
            for begin, done in pipes:
                os.write(begin, b"x")
                os.read(done, 1)
        elapsed = time.perf_counter() - clock
        print(cpu() - before, elapsed, flush=True)


if __name__ == "__main__":
    main()
