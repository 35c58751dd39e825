"""Plans how a worker is started: its device, threads, environment variables and LOAD frame."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.domain import default_limits as default
from gateway.environments.environment import Environment
from gateway.lifecycle.devices import device_variables
from gateway.lifecycle.zygotes import Zygotes
from gateway.process.cgroup import MemoryGroups
from gateway.process.cores import available_cores, threads_per_instance
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_toml import DeclaredTensor
from runtimes.control import AuditOptions, BatchingOff, BatchingOptions, Load, Reshapes
from runtimes.sandbox.box import Box


@dataclass(frozen=True)
class Launch:
    """How to start a worker.

    runtime       the name of the runtime, which one with packages of the model does not share
    environment   the variables that it gets in addition to the clean environment
    memory_limit  bytes; 0: none
    memory_groups what enforces it; None: the worker itself and a check from time to time
    box           without the worker's scratch folder; None: no box
    zygotes       what copies the worker from a process that has imported its framework; None: it imports it itself
    spare         whether a worker like this one is made in advance when it is ready
    """

    model: str
    version: str
    python: Path
    environment: Mapping[str, str]
    load: Load
    execution_timeout_s: float
    load_timeout_s: float
    memory_limit: int = 0
    memory_groups: MemoryGroups | None = None
    box: Box | None = None
    zygotes: Zygotes | None = None
    spare: bool = False
    runtime: str = ""


def plan_launch(
    config: ModelConfig,
    environment: Environment,
    device: str,
    instances: int,
    max_response_bytes: int,
    batching_off: BatchingOff | None = None,
    trial: bool = True,
    audit_share: float = 0.0,
    box: Box | None = None,
    memory_groups: MemoryGroups | None = None,
    max_body_bytes: int = default.MAX_BODY_BYTES,
    zygotes: Zygotes | None = None,
    proven: tuple[str, ...] = (),
    allow_code: bool = False,
    spare: bool = False,
) -> Launch:
    """Return the launch of one instance. Raises EnvironmentUnavailable.

    device        "cpu" or "cuda:N"
    instances     number of instances of all models, which share the cores
    batching_off  set if another worker of this version found that batching is unsafe
    trial         whether the worker may run the model on generated inputs; not if a worker crashed while loading
    audit_share   the default, if model.toml has none
    memory_groups  what enforces memory limits; None: the worker itself
    proven        as in BatchingOptions
    zygotes       what copies workers, if the runtime allows it; None: each is started as a program
    spare         whether a worker like this one is made in advance when it is ready
    allow_code    whether models may run code that their files bring
    """
    assert config.artifact is not None
    toml = config.toml
    threads = toml.threads or threads_per_instance(available_cores(), instances)
    variables = {key: value.replace("{threads}", str(threads)) for key, value in environment.runtime.env.items()}
    variables.setdefault("OMP_NUM_THREADS", str(threads))
    variables.update(device_variables(device, os.environ))
    default_warmup = 0 if toml.stateful else 1
    load = Load(
        runtime=str(environment.runtime.folder),
        artifact=str(config.artifact.path),
        name=config.name,
        version=config.version,
        inputs=tuple(tensor.spec() for tensor in toml.inputs),
        outputs=tuple(tensor.spec() for tensor in toml.outputs),
        optional=tuple(tensor.name for tensor in toml.inputs if tensor.optional),
        decoupled=toml.decoupled,
        allow_code=allow_code,
        reshape=Reshapes(_reshapes(toml.inputs), _reshapes(toml.outputs)),
        device=device.partition(":")[0],
        threads=threads,
        parameters=dict(toml.parameters),
        batching=BatchingOptions(
            max_rows=toml.max_batch_size,
            dim=toml.batch_dim,
            delay=toml.queue_delay_ms / 1000,
            target=toml.latency_target_ms / 1000,
            sizes=tuple(toml.batch_sizes),
            stateful=toml.stateful,
            declares_batching=toml.declares_batching,
            off=batching_off,
            trial=trial,
            proven=proven,
        ),
        audit=AuditOptions(
            share=audit_share if toml.audit_share is None else toml.audit_share, always=toml.audit_share is not None
        ),
        warmup=default_warmup if toml.warmup is None else toml.warmup,
        max_response_bytes=max_response_bytes,
        max_body_bytes=max_body_bytes,
        memory_limit=0 if memory_groups else toml.memory_limit,
        sequence=None if toml.sequence is None else toml.sequence.options(config.folder or config.artifact.path.parent),
    )
    return Launch(
        config.name,
        config.version,
        environment.python,
        variables,
        load,
        toml.execution_timeout_s,
        toml.load_timeout_s,
        toml.memory_limit,
        memory_groups,
        box,
        # Nothing is known of a card's driver whose process is copied.
        zygotes if environment.runtime.start_method == "fork" and device == "cpu" else None,
        spare,
        environment.runtime.name,
    )


def _reshapes(declared: Iterable[DeclaredTensor]) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    return {tensor.name: (tensor.shape or (), tensor.reshape) for tensor in declared if tensor.reshape is not None}
