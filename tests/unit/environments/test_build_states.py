"""The states of environments, for the metrics: those that models have needed, from waiting to ready or failed."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.environments import environment as environments
from gateway.environments.builder import Builder, BuildState
from gateway.environments.environment import Environment
from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.runtime import Runtime


class FakeBuilds:
    """Stands in for environment.build: the build of "good" succeeds when it is allowed to, that of "bad" fails."""

    def __init__(self) -> None:
        self.building, self.allowed = asyncio.Event(), asyncio.Event()

    async def __call__(self, environment: Environment, on_step: Callable[[str], None]) -> None:
        on_step("downloading")
        self.building.set()
        await self.allowed.wait()
        if environment.runtime.name == "bad":
            raise EnvironmentUnavailable("no such package")


def test_states_follow_a_build(
    tmp_path: Path, runtime: Callable[..., Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        fake = FakeBuilds()
        monkeypatch.setattr(environments, "build", fake)
        builder = Builder(tmp_path, "cpu", {}, frozenset(), lambda: None)
        good, bad = (runtime("x", name=name, download_mb={"cpu": size}) for name, size in (("good", 1), ("bad", 2)))
        waiting = [asyncio.create_task(builder.environment(runtime)) for runtime in (good, bad)]
        await fake.building.wait()
        assert builder.states == {"good": BuildState.BUILDING, "bad": BuildState.WAITING}
        assert builder.build_s == {}
        fake.allowed.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert builder.states == {"good": BuildState.READY, "bad": BuildState.FAILED}
        assert list(builder.build_s) == ["good"]
        assert builder.build_s["good"] >= 0

    asyncio.run(run())
