"""What the manager, the metrics and the console know of any version of a model, whatever answers its requests."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from gateway.domain.table import TableEntry
from gateway.lifecycle.policy import TRANSIENT, State, VersionKey
from gateway.lifecycle.worker_process import WorkerProcess
from gateway.repository.model_config import ModelConfig

log = logging.getLogger("models")


class WorkerCounts(NamedTuple):
    """Counts of a version's workers.

    starts      workers started: the first ones, and those that replaced crashed ones
    restarts    workers that crashed and were replaced
    audits      requests that ran again alone
    differences how many of these got a different answer
    """

    starts: int = 0
    restarts: int = 0
    audits: int = 0
    differences: int = 0

    def plus(self, other: "WorkerCounts") -> "WorkerCounts":
        return WorkerCounts(*(a + b for a, b in zip(self, other, strict=True)))


class Version:
    """One version of a model that is served. Calls `on_change` after each change; the manager then publishes `entry`.

    ModelVersion has workers of its own; PipelineVersion has steps.

    reason    one sentence if the state is not READY, if there is one
    failed    whether it is UNAVAILABLE until something changes
    error_kind  the kind of error that its requests get because of `reason`; "" for Unavailable
    outdated  whether it could not be loaded because the files changed and no longer match its fingerprint
    devices   "cpu" or "cuda:N": `instances` workers run on each of them. Empty until they have been chosen
    """

    def __init__(self, key: VersionKey, config: ModelConfig, on_change: Callable[[], None]) -> None:
        self.key = key
        self.config = config
        self.workers: list[WorkerProcess] = []
        self.reason = _printable(config.problem)
        self.failed = bool(config.problem)
        self.error_kind = ""
        self.unloading = False
        self.devices: tuple[str, ...] = ()
        self.outdated = False
        self._on_change = on_change
        toml = config.toml
        self._version_labels = tuple(
            label for label, version in toml.version_labels.items() if str(version) == config.version
        )
        self._preprocess = toml.preprocess.resolve() if toml.preprocess else None
        self._postprocess = toml.postprocess.resolve() if toml.postprocess else None

    @property
    def state(self) -> State:
        raise NotImplementedError

    @property
    def admits(self) -> bool:
        """Whether requests are accepted."""
        raise NotImplementedError

    def entry(self, waiting_for: str = "") -> TableEntry:
        """Return the version's entry in the fronts' table. `waiting_for` is the reason if it has none of its own."""
        raise NotImplementedError

    @property
    def is_answering(self) -> bool:
        """Whether requests are answered by it, if not at once, so that no other version has to stand in."""
        return self.admits and self.state is not State.UNLOADED and not self.outdated

    @property
    def is_restarting(self) -> bool:
        """Whether its requests wait for a worker."""
        return False

    @property
    def is_wanted(self) -> bool:
        """Whether requests need it: it is loaded, or being loaded."""
        return self.state in (State.READY, State.LOADING)

    @property
    def is_changing(self) -> bool:
        """Whether its state will soon be another one, although nobody does anything.

        A version whose files changed while they were read is UNAVAILABLE, but the repository is scanned again because
        of it, so that either the new files replace it, or it is tried again.
        """
        return self.state in TRANSIENT or (self.state is State.UNAVAILABLE and self.outdated)

    @property
    def batching_off_reason(self) -> str:
        """Why batching is off, as a metric's label; "" if it is on or not known yet."""
        return ""

    @property
    def batching_note(self) -> str:
        """How its requests are batched, in words; "" if that is not known yet."""
        return ""

    @property
    def execution_note(self) -> str:
        """What runs it, in words; "" if that is obvious, or not known yet."""
        return ""

    @property
    def counts(self) -> WorkerCounts:
        return WorkerCounts()

    @property
    def load_s(self) -> float | None:
        """Seconds from the start of a worker until it was ready: of the slowest that is; None if none is."""
        return max((worker.load_s for worker in list(self.workers) if worker.ready), default=None)

    def fail(self, reason: str, error_kind: str = "") -> None:
        """Mark the version as UNAVAILABLE, for this reason, until something changes."""
        self.failed, self.reason, self.error_kind = True, _printable(reason), error_kind
        log.error("%s is UNAVAILABLE: %s", self.key, self.reason)
        self._on_change()

    def configuration(self) -> dict[str, Any]:
        """Return the effective configuration from model.toml or config.pbtxt, as JSON values."""
        toml, artifact = self.config.toml, self.config.artifact
        return {
            # In TensorFlow Serving's layout, the version's folder itself is the artifact, which then has no name.
            "artifact": artifact.path.name if artifact and artifact.path.suffix else "",
            "backend": artifact.runtime.backend(artifact.platform) if artifact else "",
            "instances": toml.instances,
            "devices": list(self.devices),
            "queue_delay_ms": toml.queue_delay_ms,
            "version_policy": toml.version_policy.model_dump(mode="json"),
            "labels": dict(toml.labels),
            "reshape": {
                kind: {tensor.name: list(tensor.reshape) for tensor in declared if tensor.reshape is not None}
                for kind, declared in (("inputs", toml.inputs), ("outputs", toml.outputs))
            },
            "formats": {tensor.name: tensor.format for tensor in toml.inputs if tensor.format},
            "memory_limit": toml.memory_limit,
            "sequence": toml.sequence.model_dump(mode="json") if toml.sequence else None,
            "batching": self.batching_note,
            "execution": self.execution_note,
        }

    def stop(self) -> None:
        """Stop restarting workers. Each of them ends when every front has closed its connection."""
        for worker in self.workers:
            worker.stop()

    def kill(self) -> None:
        for worker in self.workers:
            worker.kill()


def _printable(text: str) -> str:
    """Escape bytes that are not valid Unicode, which file names may contain and no protocol can encode."""
    return text.encode(errors="backslashreplace").decode()
