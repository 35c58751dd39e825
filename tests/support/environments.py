"""The runtimes' environments for tests, and what happens on a machine that cannot have one."""

import asyncio
import os
import sys

import pytest

from gateway.config import home
from gateway.environments.environment import Environment, build, locate
from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.runtime import Runtime

# Those that the example repository has models for.
RUNTIMES = ("onnx", "torchscript", "savedmodel", "mxnet", "cntk")


def skip_or_fail(reason: str) -> None:
    """Skip the test on a user's machine; fail it in CI, where nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def ready_environment(runtime: Runtime, accelerator: str = "cpu") -> Environment:
    """The runtime's environment, built once per machine under MODELPORT_HOME; skips the test where it cannot exist."""
    try:
        environment = locate(runtime, accelerator, home())
        if not environment.ready:
            asyncio.run(build(environment, lambda line: print(f"{runtime.name}: {line}", file=sys.stderr)))
    except EnvironmentUnavailable as error:
        skip_or_fail(f"runtime {runtime.name}: {error}")
        raise
    return environment
