"""One version of a pipeline that is served: it has no workers, and its state follows those of its steps."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from gateway.domain.pipeline import MAX_DEPTH
from gateway.domain.table import TableEntry
from gateway.domain.types import ModelStatus, runs_sequences, select_version
from gateway.lifecycle.pipeline_signature import Mismatch, PipelineInterface, pipeline_interface
from gateway.lifecycle.policy import State, VersionKey
from gateway.lifecycle.version import Version
from gateway.repository.image_config import incompatibility
from gateway.repository.model_config import ModelConfig
from gateway.repository.pipeline_graph import decoupled_problem

log = logging.getLogger("models")

# Versions of each model, the newest first.
Models = Mapping[str, Sequence[ModelStatus]]
PLATFORM = "ensemble"  # Triton's name


class PipelineVersion(Version):
    """The manager calls `follow` after each change of another model."""

    def __init__(self, key: VersionKey, config: ModelConfig, on_change: Callable[[], None]) -> None:
        super().__init__(key, config, on_change)
        self._state = State.UNAVAILABLE if config.problem else State.LOADING
        self._admits = False
        self._interface: PipelineInterface | None = None
        self._decoupled = self._stateful = self._was_ready = False
        self._seen: object = None  # what the state follows from

    @property
    def models(self) -> set[str]:
        """The names of the models that it runs."""
        return {step.model for step in self.config.steps}

    @property
    def state(self) -> State:
        return State.UNLOADING if self.unloading else self._state

    @property
    def admits(self) -> bool:
        """While a worker of a step is replaced, requests wait there."""
        return self._admits and not self.unloading

    @property
    def batching_note(self) -> str:
        return "each step batches its own requests" if self._interface else ""

    def follow(self, models: Models, coming: Collection[str], problem: str = "") -> None:
        """Take over the state of the steps.

        coming   names of models that will soon have a status
        problem  why the pipeline cannot run, whatever its steps are: see `in_order`
        """
        if self.config.problem:
            return
        before = self._state, self.reason
        found = [select_version(models.get(step.model, ()), step.version) for step in self.config.steps]
        others = [[each.version for each in models.get(step.model, ())] for step in self.config.steps]
        seen = found, others, [step.model in coming for step in self.config.steps], problem
        if seen == self._seen:
            return
        self._seen = seen
        self._state, self.reason = (State.UNAVAILABLE, problem) if problem else self._follow(found, models, coming)
        self.failed = self._state is State.UNAVAILABLE
        self._admits = not self.failed and all(status is not None and status.admits for status in found)
        if any(status is not None and status.awaits_load for status in found):
            self._interface = None  # of steps with other files
        if (self._state, self.reason) == before:
            return
        if self._state is State.READY and not self._was_ready:
            self._was_ready = True
            log.info("%s is READY, a pipeline of %s", self.key, ", ".join(map(str, self.config.steps)))
        elif self.failed:
            log.error("%s is UNAVAILABLE: %s", self.key, self.reason)

    def _follow(
        self, found: Sequence[ModelStatus | None], models: Models, coming: Collection[str]
    ) -> tuple[State, str]:
        waiting, is_unloaded = "", False
        for step, status in zip(self.config.steps, found, strict=True):
            if status is None and step.model in coming:
                waiting = waiting or f"its step '{step}' is being loaded"
            elif status is None:
                return State.UNAVAILABLE, f"its step '{step}' {_absence(models.get(step.model, ()))}"
            elif status.state == State.UNAVAILABLE:
                return State.UNAVAILABLE, f"its step '{step}' is UNAVAILABLE: {status.reason}"
            elif status.state == State.UNLOADED:
                is_unloaded = True
            elif status.state != State.READY:
                waiting = waiting or f"its step '{step}' is {status.state}: {status.reason}"
        statuses = [status for status in found if status is not None and status.admits]
        is_known = len(statuses) == len(found) and not any(status.awaits_load for status in statuses)
        if is_known and (problem := self._connect(statuses, models)):
            return State.UNAVAILABLE, problem
        if waiting:
            return State.LOADING, waiting
        return (State.UNLOADED, "its steps are loaded on demand") if is_unloaded else (State.READY, "")

    def _connect(self, statuses: Sequence[ModelStatus], models: Models) -> str:
        """Take over the signatures of the steps; return why they do not fit together, or ""."""
        toml = self.config.toml
        decoupled = [status.decoupled for status in statuses]
        # A step may be a pipeline, which has sequences if one of its own steps has.
        sequences = [
            runs_sequences(status, lambda name, version: select_version(models.get(name, ()), version))
            for status in statuses
        ]
        if problem := decoupled_problem(self.config.steps, decoupled, sequences):
            return problem
        try:
            interface = pipeline_interface(self.config.steps, statuses, toml, self.config.class_labels)
        except Mismatch as mismatch:
            return str(mismatch)
        self._interface = interface
        self._decoupled = any(decoupled)
        self._stateful = any(status.stateful for status in statuses)
        return incompatibility(toml.preprocess, toml.postprocess, interface.signature, interface.class_labels, 0)

    def entry(self, waiting_for: str = "") -> TableEntry:
        state, found, toml = self.state, self._interface, self.config.toml
        reason = "it is being unloaded" if state is State.UNLOADING else self.reason or waiting_for
        status = ModelStatus(
            name=self.key.model,
            version=self.key.version,
            state=state.value,
            reason="" if state is State.READY else reason or "its steps are being loaded",
            admits=self.admits,
            platform=PLATFORM,
            signatures={"default": found.signature} if found else {},
            learned=found.learned if found else None,
            max_batch_size=found.max_batch_size if found else 0,
            was_batched=bool(toml.max_batch_size),
            stateful=self._stateful,
            decoupled=self._decoupled,
            priority_levels=toml.priority_levels,
            default_priority_level=toml.default_priority_level,
            version_labels=self._version_labels,
            class_labels=found.class_labels if found else self.config.class_labels,
            preprocess=self._preprocess,
            postprocess=self._postprocess,
            steps=self.config.steps,
        )
        return TableEntry(status)


def _absence(versions: Sequence[ModelStatus]) -> str:
    if not versions:
        return "is not served: it is not in the repository, or it was unloaded"
    return f"is not served; the versions of that model are {', '.join(status.version for status in versions) or 'none'}"


def in_order(pipelines: Iterable[PipelineVersion]) -> Iterator[tuple[list[PipelineVersion], str]]:
    """Yield the versions of each pipeline after those of the pipelines that it runs.

    With them comes why they cannot run, in one sentence, if they run each other or are nested too deeply; else "".
    """
    by_name: dict[str, list[PipelineVersion]] = {}
    for pipeline in pipelines:
        by_name.setdefault(pipeline.key.model, []).append(pipeline)
    runs = {
        name: {model for each in versions for model in each.models} & by_name.keys()
        for name, versions in by_name.items()
    }
    problems: dict[str, str] = {}
    depths: dict[str, int] = {}
    for name in _sorted(runs, problems):
        depths[name] = 1 + max((depths[model] for model in runs[name]), default=1)
        if depths[name] > MAX_DEPTH:
            problems.setdefault(name, f"it is nested too deeply: pipelines may run each other {MAX_DEPTH} deep")
        yield by_name[name], problems.get(name, "")


def _sorted(runs: dict[str, set[str]], problems: dict[str, str]) -> list[str]:
    """Return the names after those that they run. Breaks loops, and explains them in `problems`."""
    while True:
        try:
            return list(TopologicalSorter(runs).static_order())
        except CycleError as error:
            loop: list[str] = error.args[1][::-1]  # each of them runs the next
            for name in loop:
                runs[name] = set()
                problems[name] = f"its steps run it again: {' → '.join(loop)}; a pipeline cannot contain itself"
