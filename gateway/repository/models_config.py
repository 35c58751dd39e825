"""Reads TensorFlow Serving's models.config, which replaces a repository and names each model's folder and versions.

model_config_list {
  config {
    name: "half_plus_two"
    base_path: "/models/half_plus_two"
    model_version_policy { specific { versions: 1 versions: 2 } }
    version_labels { key: "stable" value: 1 }
  }
}

`base_path` has the layout of a model's folder in a repository, and may have a model.toml. Relative paths are relative
to the file. It may also be a URL (docs/remote.md).
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from pydantic import ValidationError

from gateway.config import explain
from gateway.environments.runtime import Runtime
from gateway.generated import tensorflow_serving_config_pb2 as pb
from gateway.repository.errors import RepositoryError
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_folder import ModelFolder, scan_model
from gateway.repository.model_toml import ModelToml

log = logging.getLogger("models")

# Hundreds of models take about 10 KiB. The limit only protects against a file that is something else entirely.
_MAX_BYTES = 1 << 20

_STRINGS_AND_COMMENTS = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|#[^\n]*")
_FIELD = re.compile(r"([A-Za-z_]\w*)\s*[:{<]")


# Returns the versions of a model whose base_path is a URL: (URL, name, settings that are set in models.config).
ScanRemote = Callable[[str, str, ModelToml], list[ModelConfig]]


def _refuse(url: str, name: str, overrides: ModelToml) -> list[ModelConfig]:
    problem = "its base_path is a URL; it must be a folder on this machine"
    return [ModelConfig(name, "", problem, problem=problem)]


class ModelsConfig:
    """A `Scan` of a models.config file. Each warning about the file is logged once, until the file changes."""

    def __init__(self, scan_remote: ScanRemote = _refuse) -> None:
        self._scan_remote = scan_remote
        self._logged: set[str] = set()

    def __call__(self, file: Path, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
        """Return the versions of the file's models. Raises RepositoryError."""
        parsed, warnings = _parse(file)
        configs: list[ModelConfig] = []
        for entry in parsed.model_config_list.config:
            found = list(_model(entry, file.parent, runtimes, self._scan_remote))
            configs += found
            warnings += _label_warnings(entry, {config.version for config in found})
        for warning in warnings:
            if warning not in self._logged:
                log.warning("%s: %s", file.name, warning)
        self._logged = set(warnings)
        return configs


def _parse(file: Path) -> tuple[pb.ModelServerConfig, list[str]]:
    """Return the parsed file, and warnings about what is ignored in it. Raises RepositoryError."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise RepositoryError(f"{file} cannot be read: {error.strerror}") from None
    if len(raw) > _MAX_BYTES:
        raise RepositoryError(f"{file} is over the limit of {_MAX_BYTES} bytes for a models.config")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RepositoryError(f"{file} is not UTF-8; it must be a models.config in protobuf's text format") from None
    warnings: list[str] = []
    parsed = pb.ModelServerConfig()
    try:
        try:
            text_format.Parse(text, parsed)
        except text_format.ParseError as error:
            if "has no field named" not in str(error):
                raise
            warnings = [f"{_describe_unknown(text, error)}; it is ignored"]
            parsed = text_format.Parse(text, pb.ModelServerConfig(), allow_unknown_field=True)
    except RecursionError:
        raise RepositoryError(f"{file} is not a models.config: it is nested too deeply") from None
    except (text_format.ParseError, ValueError) as error:
        raise RepositoryError(f"{file} is not a models.config in protobuf's text format: {error}") from None
    _check(file, parsed)
    return parsed, warnings


def _describe_unknown(text: str, error: Exception) -> str:
    known = set(_field_names(pb.ModelServerConfig.DESCRIPTOR))
    found = _FIELD.findall(_STRINGS_AND_COMMENTS.sub('""', text))
    names = dict.fromkeys(name for name in found if name not in known)
    if names:
        return f"there is no field {', '.join(names)}"
    return f"{error}"  # the field exists, but not at this position in the file


def _field_names(message: Any) -> Iterator[str]:
    for field in message.fields:
        yield field.name
        if field.message_type is not None and field.message_type.file is message.file:
            yield from _field_names(field.message_type)


def _check(file: Path, parsed: pb.ModelServerConfig) -> None:
    """Raises RepositoryError."""
    if parsed.WhichOneof("config") != "model_config_list":
        raise RepositoryError(f"{file} has no model_config_list; write 'model_config_list {{ config {{ … }} }}'")
    seen: set[str] = set()
    for number, entry in enumerate(parsed.model_config_list.config, 1):
        if not entry.name or "/" in entry.name:
            raise RepositoryError(f"{file}: config {number} has the name '{entry.name}'; use a name without '/'")
        if entry.name in seen:
            raise RepositoryError(f"{file} has two configs for model '{entry.name}'; keep one of them")
        seen.add(entry.name)


def _model(
    entry: pb.ModelConfig, folder: Path, runtimes: Mapping[str, Runtime], scan_remote: ScanRemote
) -> Iterator[ModelConfig]:
    problem = ""
    if not entry.base_path:
        problem = "it has no base_path in models.config"
    elif entry.model_version_policy.HasField("specific") and not entry.model_version_policy.specific.versions:
        problem = "its model_version_policy is specific, but names no versions"
    try:
        overrides = ModelToml.model_validate(_overrides(entry))
    except ValidationError as error:
        problem = problem or explain(error, lambda _: "models.config", ModelToml)
    if problem:
        yield ModelConfig(entry.name, "", problem, problem=problem)  # the problem is also the fingerprint
        return
    if "://" in entry.base_path:
        yield from scan_remote(entry.base_path, entry.name, overrides)
        return
    yield from scan_model(ModelFolder(entry.name, folder / entry.base_path, overrides), runtimes)


def _overrides(entry: pb.ModelConfig) -> dict[str, Any]:
    """Return the entry's settings as keys of model.toml."""
    overrides: dict[str, Any] = {}
    policy = entry.model_version_policy
    match policy.WhichOneof("policy_choice"):
        case "latest":
            overrides["version_policy"] = {"latest": policy.latest.num_versions or 1}
        case "all":
            overrides["version_policy"] = {"all": True}
        case "specific":
            overrides["version_policy"] = {"specific": list(policy.specific.versions)}
    if entry.version_labels:
        overrides["version_labels"] = dict(entry.version_labels)
    return overrides


def _label_warnings(entry: pb.ModelConfig, served: set[str]) -> Iterator[str]:
    for label, version in entry.version_labels.items():
        if str(version) not in served:
            yield f"label '{label}' of model '{entry.name}' names version {version}, which is not served"
