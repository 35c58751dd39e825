"""A version's configuration in force, value by value, and where each value comes from."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from gateway.config import Settings
from gateway.domain.pipeline import Step
from gateway.domain.types import ModelStatus, complete_specs
from gateway.lifecycle.version import Version
from gateway.repository.model_toml import PIPELINE_KEYS, DeclaredTensor, ModelToml
from runtimes.contract import TensorSpec
from runtimes.redaction import redacted

# "setting": of the server, by a flag, a variable or modelport.toml. "run time": found by running the model.
Source = Literal[
    "default", "setting", "model.toml", "config.pbtxt", "models.config", "load request", "artifact", "run time"
]

# Settings of the server that concern requests to its models, or their workers.
_REQUEST_SETTINGS = ("request_timeout_s", "max_body_bytes", "max_json_bytes", "max_response_bytes")
_SETTINGS = (*_REQUEST_SETTINGS, "accelerator", "sandbox")
# What switched batching off → where that is written or was found. `Facts` in the worker lists the labels.
_BATCHING_OFF: Mapping[str, Source] = {"state": "artifact", "shape": "artifact", "graph": "artifact"}
# Keys that are shown as they are in the file, or by default. The others need a closer look.
_PLAIN = (
    "batch_dim", "batch_sizes", "queue_delay_ms", "latency_target_ms", "instances", "stateful", "priority_levels",
    "default_priority_level", "version_policy", "execution_timeout_s", "load_timeout_s", "memory_limit",
    "response_cache",
)  # fmt: skip


class Value(NamedTuple):
    """One value in force. `value` is a JSON value; None if it is not known yet."""

    key: str
    value: Any
    source: Source
    note: str = ""


def explain(version: Version, status: ModelStatus, settings: Settings) -> list[dict[str, Any]]:
    """Return the values, each as {key, value, source, note}, without paths of this machine."""
    values = _Explanation(version, status, settings).values()
    if version.config.steps:  # most keys concern workers, which a pipeline does not have
        values = (value for value in values if value.key.partition(".")[0] in {*PIPELINE_KEYS, *_REQUEST_SETTINGS})
    return [value._asdict() for value in values]


class _Explanation:
    def __init__(self, version: Version, status: ModelStatus, settings: Settings) -> None:
        self._version, self._status, self._settings = version, status, settings
        self._toml: ModelToml = version.config.toml
        self._launch = next((worker.launch for worker in version.workers), None)

    def values(self) -> Iterator[Value]:
        artifact = self._version.config.artifact
        if artifact is not None:
            name = self._version.configuration()["artifact"] or None
            yield Value("artifact", name, self._source("artifact", "artifact"))
            yield Value("runtime", artifact.runtime.name, self._source("runtime", "artifact"))
        for number, step in enumerate(self._version.config.steps, 1):
            yield Value(f"steps.{number}", _describe(step), self._source("steps"))
        yield from self._tensors("inputs", self._toml.inputs)
        yield from self._tensors("outputs", self._toml.outputs)
        yield self._batch_size()
        for key in _PLAIN:
            yield Value(key, _json(getattr(self._toml, key)), self._source(key))
        yield self._device()
        yield from self._computed()
        labels = {name: PurePath(file).name for name, file in self._toml.labels.items()}
        yield Value("labels", labels, self._source("labels"))
        yield Value("version_labels", dict(self._toml.version_labels), self._source("version_labels"))
        yield from self._table("preprocess", self._toml.preprocess)
        yield from self._table("postprocess", self._toml.postprocess)
        parameters = {name: redacted(_text(value)) for name, value in self._toml.parameters.items()}
        yield Value("parameters", parameters, self._source("parameters"))
        for key in _SETTINGS:
            yield Value(key, getattr(self._settings, key), self._setting(key))

    def _source(self, key: str, otherwise: Source = "default") -> Source:
        source: Any = self._version.config.sources.get(key, otherwise)
        return source  # type: ignore[no-any-return]

    def _setting(self, key: str) -> Source:
        return "setting" if key in self._settings.model_fields_set else "default"

    def _tensors(self, kind: Literal["inputs", "outputs"], declared: Sequence[DeclaredTensor]) -> Iterator[Value]:
        """Yield datatype and shape of each tensor of the default signature; before it is loaded, of the declared."""
        signature, learned = self._status.signature(), self._status.learned
        known: Sequence[TensorSpec] = getattr(signature, kind) if signature else ()
        revealed: Sequence[TensorSpec] = getattr(learned, kind) if learned else ()
        by_name = {tensor.name: tensor for tensor in declared}
        in_artifact = {spec.name: spec for spec in known}
        fallback = [] if signature else [TensorSpec(each.name, each.datatype, each.shape) for each in declared]
        for spec in complete_specs(known or revealed or fallback, revealed):
            for field, value in (("datatype", spec.datatype or None), ("shape", _json(spec.shape))):
                source: Source = "run time"
                if getattr(by_name.get(spec.name), field, None):
                    source = self._source(kind)
                elif value is None or getattr(in_artifact.get(spec.name), field, None) not in (None, ""):
                    source = "artifact"
                note = "" if value is not None else "the artifact does not say; the first request will show it"
                yield Value(f"{kind}.{spec.name}.{field}", value, source, note)

    def _batch_size(self) -> Value:
        declared = self._toml.max_batch_size
        batching = self._version.configuration()["batching"]
        if not batching:  # not loaded yet
            return Value("max_batch_size", declared, self._source("max_batch_size"))
        value, off = self._status.max_batch_size, self._version.batching_off_reason
        if value == declared:
            return Value("max_batch_size", value, self._source("max_batch_size"), batching)
        if off == "state" and self._toml.stateful:
            return Value("max_batch_size", value, self._source("stateful"), batching)
        if not off and self._toml.batch_sizes:
            return Value("max_batch_size", value, self._source("batch_sizes"), batching)
        return Value("max_batch_size", value, _BATCHING_OFF.get(off, "run time"), batching)

    def _device(self) -> Value:
        wanted = ", ".join(self._toml.device)
        devices = list(self._version.devices)
        notes = [f"device = {wanted}"] if devices and devices != list(self._toml.device) else []
        notes += filter(None, [self._version.execution_note])
        return Value("device", devices or wanted, self._source("device"), "; ".join(notes))

    def _computed(self) -> Iterator[Value]:
        """Yield what is computed when a worker starts, if the file does not set it."""
        threads = self._launch.load.threads if self._launch else self._toml.threads
        shared = "" if self._toml.threads else "the cores are shared by the instances of all models"
        yield Value("threads", threads, self._source("threads"), shared)
        warmup = self._launch.load.warmup if self._launch else self._toml.warmup
        yield Value("warmup", warmup, self._source("warmup"))
        if self._toml.audit_share is None:
            yield Value("audit_share", self._settings.audit_share, self._setting("audit_share"))
        else:
            yield Value("audit_share", self._toml.audit_share, self._source("audit_share"))

    def _table(self, name: str, table: BaseModel | None) -> Iterator[Value]:
        if table is None:
            return
        for key in type(table).model_fields:
            is_set = key in table.model_fields_set
            yield Value(f"{name}.{key}", _json(getattr(table, key)), self._source(name) if is_set else "default")


def _describe(step: Step) -> str:
    """Return a step in one line, such as "resnet50: data = pixels → scores = prob"."""
    given, made = (
        ", ".join(f"{name} = {tensor}" for name, tensor in each.items()) for each in (step.inputs, step.outputs)
    )
    return f"{step}: {given} → {made}" + (f", when {step.when}" if step.when else "")


def _json(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
