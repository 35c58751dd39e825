"""A real tritonserver over a model repository, from the wheel nvidia-pytriton. It has the Python backend only.

It needs a separate environment: python -m venv triton && triton/bin/pip install nvidia-pytriton

    triton/bin/python benchmarks/references/triton_repository.py FOLDER

It prints its HTTP port when all models are ready.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytriton

PACKAGE = Path(pytriton.__file__).parent


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def serve(repository, *arguments):
    """Run the server, with further arguments, until it ends, or this process is terminated."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the server ends as well
    with tempfile.TemporaryDirectory() as made:
        backends, port = Path(made, "backends"), free_port()
        shutil.copytree(PACKAGE / "tritonserver" / "backends", backends)
        stub = PACKAGE / "tritonserver" / "python_backend_stubs" / "{}.{}".format(*sys.version_info[:2])
        shutil.copy(stub / "triton_python_backend_stub", backends / "python")
        libraries = [str(PACKAGE.parent / "nvidia_pytriton.libs"), os.environ.get("LD_LIBRARY_PATH", "")]
        server = subprocess.Popen(
            [
                str(PACKAGE / "tritonserver" / "bin" / "tritonserver"),
                f"--model-repository={repository}",
                f"--backend-directory={backends}",
                "--http-address=127.0.0.1",
                f"--http-port={port}",
                "--allow-grpc=false",
                "--allow-metrics=false",
                *arguments,
            ],
            # The stub runs the first python3 of PATH.
            env={
                **os.environ,
                "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
                "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
                "PYTHONPATH": str(PACKAGE.parent),
            },
        )
        try:
            while server.poll() is None:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready").close()
                    print(f"http {port}", flush=True)
                    break
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(0.1)
            server.wait()
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    serve(sys.argv[1])
