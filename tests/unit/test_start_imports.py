"""What processes do not import when they start, because it would only take memory and time.

docs/performance.md (“Memory”) has the sizes. That the code imported later works is shown by the tests that use it.
"""

import subprocess
import sys

import pytest

from tests.support import ROOT

PROCESSES = {
    # FastAPI describes the routes, and is imported when a client asks for the documentation. grpcio is imported for the
    # first bidirectional stream.
    "front": (
        "gateway.front.process, gateway.front.admin.app",
        {"fastapi", "pydantic", "grpc", "zipfile", "jwt", "opentelemetry", "xxhash", "ml_dtypes"},
    ),
    "supervisor": (
        "gateway.cli, gateway.commands.serve",
        {"numpy", "google.protobuf", "jwt", "tensorboardX", "opentelemetry", "ml_dtypes"},
    ),
    # Older versions of numpy import it themselves.
    "worker": ("runtimes.worker.start, runtimes.onnx.builder", {"numpy.random", "hashlib"}),
}


@pytest.mark.parametrize("process", list(PROCESSES))
def test_a_process_does_not_import_at_its_start_what_few_need(process: str) -> None:
    modules, absent = PROCESSES[process]
    program = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert absent & set(done.stdout.split()) == set()
