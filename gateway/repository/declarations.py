"""What comes with an artifact and completes the model's configuration: MLflow's signature, an archive's manifest."""

import re
from dataclasses import replace
from typing import Any

from gateway.repository.formats import Artifact
from gateway.repository.mar import Archive
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_toml import DeclaredTensor, ModelToml
from runtimes.contract import TensorSpec, unnamed_outputs


def with_declarations(config: ModelConfig, artifact: Artifact) -> ModelConfig:
    """Return the model's configuration with its artifact. What model.toml sets has precedence."""
    toml = _completed(config.toml, inputs=_tensors(artifact.inputs), outputs=_tensors(artifact.outputs))
    warning = "; ".join(filter(None, (config.warning, artifact.warning)))
    completed = replace(config, artifact=artifact, toml=toml, warning=warning)
    if artifact.archive:
        completed = _from_archive(completed, artifact, artifact.archive)
    added = completed.toml.model_fields_set - config.toml.model_fields_set
    return replace(completed, sources={**config.sources, **dict.fromkeys(sorted(added), "artifact")})


def stated_version(artifact: Artifact) -> tuple[str, dict[str, int]]:
    """Return the version that an artifact states, 1 if it states none, and the label for it as it is written: "1.0"."""
    text = artifact.archive.version if artifact.archive else ""
    match = re.fullmatch(r"(\d{1,18})(\.[\w.]{1,60})?", text, re.ASCII)
    number = max(1, int(match[1])) if match else 1
    return str(number), {text: number} if match and text != str(number) else {}


def _from_archive(config: ModelConfig, artifact: Artifact, archive: Archive) -> ModelConfig:
    version, version_labels = stated_version(artifact)
    toml = _completed(
        config.toml,
        preprocess=archive.preprocess,
        postprocess=archive.postprocess,
        version_labels=version_labels if version_labels and version == config.version else None,
        **(artifact.handler.settings if artifact.handler else {}),
    )
    labels = dict(config.class_labels)
    if archive.labels and not labels:
        unnamed = unnamed_outputs(1)[0] if artifact.is_undeclared else ""
        labels[toml.outputs[0].name if toml.outputs else unnamed] = archive.labels
    warning = "; ".join(filter(None, (config.warning, archive.warning)))
    readable = (*config.readable, archive.folder)
    return replace(config, toml=toml, class_labels=labels, warning=warning, readable=readable)


def _completed(toml: ModelToml, **stated: Any) -> ModelToml:
    """Return the configuration with what an artifact states, where model.toml sets nothing. None: it states nothing."""
    missing = {key: value for key, value in stated.items() if value is not None and key not in toml.model_fields_set}
    return toml.model_copy(update=missing) if missing else toml


def _tensors(specs: tuple[TensorSpec, ...]) -> tuple[DeclaredTensor, ...] | None:
    if not specs:
        return None
    return tuple(
        DeclaredTensor.model_construct(name=spec.name, datatype=spec.datatype, shape=spec.shape) for spec in specs
    )
