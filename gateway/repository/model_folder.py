"""Scans the folder of one model: its configuration, and its versions."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from gateway.domain.pipeline import Step
from gateway.environments.errors import BrokenRequirements
from gateway.environments.runtime import Runtime
from gateway.repository.declarations import with_declarations
from gateway.repository.errors import UnknownFormat
from gateway.repository.fingerprint import fingerprint_of
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_toml import DeclaredTensor, ModelConfigError, ModelToml, read_model_toml
from gateway.repository.pipeline_graph import graph_problem
from gateway.repository.sequence_config import INITIAL_STATES, StateToml
from gateway.repository.version_artifact import version_artifact

log = logging.getLogger("models")

REQUEST = "load request"  # where settings come from that a request to load the model brought


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder, with path/<version>/<artifact> and path/model.toml.

    overrides  settings from elsewhere; the keys that are set replace those of model.toml
    any_name   whether the configuration in the folder may have another name than the folder
    requested  what a request to load the model brought; None if everything is from the folder
    """

    name: str
    path: Path
    overrides: ModelToml = field(default_factory=ModelToml)
    any_name: bool = False
    requested: "Requested | None" = None


@dataclass(frozen=True)
class Requested:
    """What a request to load a model brought: see gateway/lifecycle/overrides.py.

    number         differs for each request, so that each of them loads the model again
    configuration  Triton's, in JSON, in place of the files in the folder
    has_files      whether the folder was made from files in the request
    """

    number: int
    configuration: str
    has_files: bool = False


def scan_model(folder: ModelFolder, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
    """Return the versions of one model, or its problem, so that a broken folder never affects other models."""
    name = folder.name
    try:
        return list(_model(folder, runtimes))
    except OSError as error:
        return [ModelConfig(name, "", "", problem=f"its folder cannot be read: {error.strerror}")]
    except Exception:
        log.exception("the folder of model %s could not be read", name)
        return [ModelConfig(name, "", "", problem="its folder could not be read; the gateway's log says why")]


def _model(model: ModelFolder, runtimes: Mapping[str, Runtime]) -> Iterator[ModelConfig]:
    folder, name, requested = model.path, model.name, model.requested
    config_files = [folder / "model.toml", folder / "config.pbtxt"]
    try:
        toml, sources, warning, steps, class_labels = _configuration(model, runtimes)
    except ModelConfigError as error:
        extra = f"{folder}\0{requested}" if requested else ""
        yield ModelConfig(name, "", fingerprint_of(*config_files, extra=extra), problem=str(error), folder=folder)
        return
    versions = versions_in(folder)
    if not versions:
        what = "which stays empty" if steps else "and put the artifact in it"
        problem = f"it has no version folder; add one, such as 1, {what}"
        yield ModelConfig(name, "", "", problem=problem)
        return
    chosen = toml.version_policy.choose(list(versions))
    if not chosen:
        problem = f"its version policy selects none of the versions {sorted(versions)}"
        yield ModelConfig(name, "", fingerprint_of(*config_files), problem=problem)
    config_fingerprint = fingerprint_of(*config_files, extra=str(requested))
    for version in chosen:
        version_folder, *others = versions[version]
        initial = sorted({folder / INITIAL_STATES / each.initial for each in _states(toml) if each.initial})
        files = (*config_files, version_folder, *others, *(folder / file for file in toml.labels.values()), *initial)
        labels = sorted(label for label, number in model.overrides.version_labels.items() if number == version)
        # A models.config can point a model to another folder, or move a label, without a change of any other file.
        extra = "\0".join([str(folder), *labels, *([str(requested)] if requested else [])])
        config = ModelConfig(
            name,
            str(version),
            fingerprint_of(*files, extra=extra),
            toml=toml,
            sources=sources,
            class_labels=class_labels,
            warning=warning,
            readable=(version_folder, *initial),
            folder=folder,
            files=files,
            extra=extra,
            config_fingerprint=config_fingerprint,
            steps=steps,
        )
        if others:
            *most, last = [each.name for each in versions[version]]
            names = f"{', '.join(most)} and {last}"
            yield replace(config, problem=f"its folders {names} are all version {version}; keep one of them")
            continue
        if steps:
            yield config
            continue
        try:
            artifact = version_artifact(version_folder, toml, runtimes)
            yield with_declarations(config, artifact)
        except (UnknownFormat, BrokenRequirements) as error:
            yield replace(config, problem=str(error))


def _states(toml: ModelToml) -> tuple[StateToml, ...]:
    return toml.sequence.states if toml.sequence else ()


class _Configuration(NamedTuple):
    """The configuration of all versions of a model: fields of ModelConfig, before an artifact completes them."""

    toml: ModelToml
    sources: Mapping[str, str]
    warning: str
    steps: tuple[Step, ...]
    class_labels: Mapping[str, tuple[str, ...]]


def _configuration(model: ModelFolder, runtimes: Mapping[str, Runtime]) -> _Configuration:
    """Raises ModelConfigError."""
    toml, source, warning = read_configuration(model, runtimes)
    overrides, requested = model.overrides, model.requested
    sources = {
        **dict.fromkeys(toml.model_fields_set, source),
        **dict.fromkeys(overrides.model_fields_set, "models.config"),
        **({"artifact": REQUEST} if requested and requested.has_files else {}),
    }
    toml = toml.model_copy(update={key: getattr(overrides, key) for key in overrides.model_fields_set})
    steps = tuple(step.resolve() for step in toml.steps)
    if problem := steps and graph_problem(steps, _names(toml.inputs), _names(toml.outputs), model.name):
        raise ModelConfigError(f"{model.path.name}/{source}: {problem}")
    class_labels = {output: _read_labels(model.path, file) for output, file in toml.labels.items()}
    return _Configuration(toml, sources, warning, steps, class_labels)


def _names(tensors: Iterable[DeclaredTensor]) -> list[str]:
    return [tensor.name for tensor in tensors]


def read_configuration(model: ModelFolder, runtimes: Mapping[str, Runtime]) -> tuple[ModelToml, str, str]:
    """Return the model's configuration, the name of its file, and a warning about it. Raises ModelConfigError.

    If there are both a model.toml and a config.pbtxt, model.toml is used.
    """
    folder = model.path
    if model.requested is not None:
        from gateway.repository.config_json import read_config_json  # imports protobuf's JSON, which few models need

        declared, ignored = read_config_json(model.requested.configuration, model.name, runtimes)
        warning = f"the request to load it has settings that are ignored here: {', '.join(ignored)}" if ignored else ""
        return declared, REQUEST, warning
    toml, pbtxt = folder / "model.toml", folder / "config.pbtxt"
    if not pbtxt.exists():
        return read_model_toml(toml), toml.name, ""
    if toml.exists():
        return read_model_toml(toml), toml.name, "its config.pbtxt is not read, because there is a model.toml"
    from gateway.repository.pbtxt import read_config_pbtxt  # imports protobuf's text format, which nothing else needs

    declared, ignored = read_config_pbtxt(pbtxt, runtimes, model.any_name)
    warning = f"its config.pbtxt has settings that are ignored here: {', '.join(ignored)}" if ignored else ""
    return declared, pbtxt.name, warning


def _read_labels(folder: Path, file: str) -> tuple[str, ...]:
    """Return the lines of a labels file. Raises ModelConfigError."""
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ModelConfigError(f"the labels file '{file}' must be in the model's own folder")
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise ModelConfigError(f"the labels file '{file}' cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ModelConfigError(f"the labels file '{file}' is not UTF-8") from None
    # Not splitlines(): it also splits at a form feed or U+2028, which may be part of a label.
    return tuple(line.strip() for line in text.removesuffix("\n").split("\n")) if text else ()


def versions_in(folder: Path) -> dict[int, list[Path]]:
    """Return the version folders by number. There may be several for one number: 00000123 is version 123 too."""
    found: dict[int, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        if is_version(entry.name) and entry.is_dir():
            found.setdefault(int(entry.name), []).append(entry)
    return found


def is_version(name: str) -> bool:
    """Return whether a folder's name is a version. Protocols transmit versions as signed 64-bit integers."""
    return name.isascii() and name.isdigit() and 0 < int(name) < 1 << 63
