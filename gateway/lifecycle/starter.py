"""Starts the workers of a version: its environment, devices and box, then all its instances until they are stopped."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gateway.domain import default_limits as default
from gateway.environments.builder import Builder
from gateway.environments.environment import Environment
from gateway.environments.errors import EnvironmentUnavailable
from gateway.lifecycle.devices import count_gpus, placement
from gateway.lifecycle.launch import Launch, plan_launch
from gateway.lifecycle.model_version import ModelVersion
from gateway.lifecycle.sandbox import NotAllowed, SandboxPolicy, check_program, plan_box
from gateway.lifecycle.zygotes import Zygotes
from gateway.process.cgroup import MemoryGroups
from runtimes.sandbox.box import Box

log = logging.getLogger("models")


@dataclass(frozen=True, kw_only=True)
class StarterOptions:
    """What all workers have in common."""

    run_dir: Path
    accelerator: str = "cpu"
    max_response_bytes: int = default.MAX_RESPONSE_BYTES
    max_body_bytes: int = default.MAX_BODY_BYTES
    audit_share: float = default.AUDIT_SHARE
    sandbox: SandboxPolicy = field(default_factory=SandboxPolicy)
    memory_groups: MemoryGroups | None = None
    fork_workers: bool = True


class Starter:
    """`instances` returns the number of instances of all models, which share the cores."""

    def __init__(self, options: StarterOptions, builder: Builder, instances: Callable[[], int]) -> None:
        self.zygotes = Zygotes(options.run_dir) if options.fork_workers else None
        self._options = options
        self._builder = builder
        self._instances = instances

    async def run(self, version: ModelVersion) -> None:
        """Wait for the environment, then run all instances until they are stopped."""
        artifact, toml = version.config.artifact, version.config.toml
        if artifact is None:
            return
        try:
            check_program(version.config, self._options.sandbox)
            accelerator = self._options.accelerator
            placement(toml.device, accelerator, accelerator, 0)  # rejects an impossible device before anything is built
            policy, folder = self._options.sandbox, artifact.runtime.folder
            box = await asyncio.to_thread(plan_box, version.config, folder, policy)
            environment = await self._builder.environment(artifact.runtime)
            version.devices = await self._place(version, environment)
            if version.unloading:
                return
            devices = version.devices * toml.instances
            launches = [partial(self._launch, version, environment, each, box) for each in devices]
            for launch in launches:
                launch()  # raises the error of any instance before the first worker starts
            async with asyncio.TaskGroup() as group:
                for slot, launch in enumerate(launches):
                    group.create_task(version.run_instance(launch, self._options.run_dir, slot))
        except (EnvironmentUnavailable, NotAllowed) as error:
            version.fail(str(error))
        except Exception:
            log.exception("%s could not be started", version.key)
            version.fail("it could not be started; the gateway's log says why")

    async def _place(self, version: ModelVersion, environment: Environment) -> tuple[str, ...]:
        device = version.config.toml.device
        gpu_count = await asyncio.to_thread(count_gpus) if device == ("auto",) else 0
        devices = placement(device, self._options.accelerator, environment.accelerator, gpu_count)
        if device == ("auto",):
            log.info("%s: device = 'auto' selects %s", version.key, devices[0])
        return devices

    def _launch(self, version: ModelVersion, environment: Environment, device: str, box: Box | None) -> Launch:
        options = self._options
        return plan_launch(
            version.config,
            environment,
            device,
            self._instances(),
            options.max_response_bytes,
            version.batching_off,
            version.trial_allowed,
            options.audit_share,
            box and box._replace(gpu=device != "cpu"),
            options.memory_groups,
            options.max_body_bytes,
            self.zygotes,
            version.proven(device.partition(":")[0]),
            options.sandbox.programs,
            version.on_demand,
        )
