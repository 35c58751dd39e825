"""Triton's extensions, used by NVIDIA's client, unmodified, in its own environment."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from gateway.process.address import GrpcServer
from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway
from tests.support.triton_models import add_simple, add_simple_identity, add_simple_string

# The native server supports no others: docs/decisions/0009-grpc-native.md.
COMPRESSIONS = {"native": ["gzip"], "guarded": ["gzip"], "grpcio": ["gzip", "deflate"]}


@pytest.mark.parametrize("grpc_server", get_args(GrpcServer))
def test_tritonclient_and_the_extensions(gateway: Callable[..., Gateway], tmp_path: Path, grpc_server: str) -> None:
    python = client_python("tritonclient", "tritonclient[all]==2.73.0")
    repository = tmp_path / "repository"
    for add in (add_simple, add_simple_string, add_simple_identity):
        add(repository)
    running = gateway(repository, "--shared-memory", "--fronts", "2", "--grpc-server", grpc_server).wait_ready()
    script = Path(__file__).parent / "triton_extensions_script.py"
    assert "all of it worked" in run_client(python, script, running.http, running.grpc, *COMPRESSIONS[grpc_server])
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("all but shared memory holds; /dev/shm is not writable here")
