"""A mosec server: its HTTP front is written in Rust, and workers in Python get batches from it over Unix sockets.

It needs a separate environment: python -m venv mosec && mosec/bin/pip install mosec onnxruntime

    mosec/bin/python benchmarks/references/mosec_server.py MODEL.onnx

It serves `POST /inference` with {"inputs": rows}, and answers like FastAPI's reference.
"""

import http.client
import itertools
import json
import math
import mmap
import multiprocessing
import multiprocessing.context
import os
import socket
import sys
import tempfile
import threading
import time

import mosec
import numpy as np
import onnxruntime as ort


class FileEvent:
    """multiprocessing.Event where its POSIX semaphores are missing: a byte of a file that all processes map.

    mosec uses two events, to shut down; workers look at them once per batch, which costs no more than with semaphores.
    """

    def __init__(self, path):
        self._path = path
        with open(path, "r+b") as file:
            self._flag = mmap.mmap(file.fileno(), 1)

    def __reduce__(self):
        return FileEvent, (self._path,)

    def is_set(self):
        return self._flag[0] == 1

    def set(self):
        self._flag[0] = 1

    def clear(self):
        self._flag[0] = 0

    def wait(self, timeout=None):
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self.is_set() and time.monotonic() < end:
            time.sleep(0.01)
        return self.is_set()


def without_semaphores(folder):
    """Replace multiprocessing.Event if this machine has no POSIX shared memory, in which semaphores are."""
    try:
        multiprocessing.Lock()
    except OSError:
        files = (os.path.join(folder, str(number)) for number in itertools.count())

        def event(context):
            path = next(files)
            with open(path, "wb") as file:
                file.write(b"\0")
            return FileEvent(path)

        multiprocessing.context.BaseContext.Event = event


class Model(mosec.Worker):
    def __init__(self):
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name

    def forward(self, data):
        """One batch: a list of requests' JSON, for which a list of as many answers is returned."""
        rows = [np.array(each["inputs"], np.float32) for each in data]
        (outputs,) = self._session.run(None, {self._name: np.concatenate(rows)})
        ends = np.cumsum([len(each) for each in rows])[:-1]
        return [{"outputs": part.tolist()} for part in np.split(outputs, ends)]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def announce(port, width):
    """Print the port once a request is answered, which the front can do only when it has a worker."""
    body = json.dumps({"inputs": [[0.0] * width]})
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", "/inference", body)
            if connection.getresponse().status == 200:
                break
        except OSError:
            pass  # not yet
        finally:
            connection.close()
        time.sleep(0.1)
    print(f"port {port}", flush=True)


def main():
    (artifact,) = sys.argv[1:]
    width = ort.InferenceSession(artifact).get_inputs()[0].shape[1]
    port = free_port()
    sys.argv[1:] = [artifact, "--port", str(port), "--address", "127.0.0.1"]
    with tempfile.TemporaryDirectory() as folder:
        without_semaphores(folder)
        server = mosec.Server()
        server.append_worker(Model, num=1, max_batch_size=32, max_wait_time=1)
        threading.Thread(target=announce, args=(port, width), daemon=True).start()
        server.run()


if __name__ == "__main__":
    main()
