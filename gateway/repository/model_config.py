"""What a scan returns: a ModelConfig for each version that should be served."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway.domain.pipeline import Step
from gateway.environments.runtime import Runtime
from gateway.repository.fingerprint import fingerprint_of
from gateway.repository.formats import Artifact, resolve_runtime
from gateway.repository.model_toml import ModelToml
from runtimes.contract import Signature


@dataclass(frozen=True)
class ModelConfig:
    """One version of a model that should be served.

    version       without leading zeros; "" if a problem concerns the model as a whole
    fingerprint   changes when the artifact, model.toml or config.pbtxt changes; the version is loaded again then
    artifact      None if there is none to load; `problem` has the reason, in one sentence
    sources       key of `toml` that is set → the file that sets it: model.toml, config.pbtxt or models.config
    class_labels  output → labels of the indices in its last dimension; "" is the first output
    warning       what is ignored in the model's configuration, in one line
    readable      the files and folders that its worker may read
    folder        the folder in which links may lead from one place to another: the model's, or None
    files, extra  what the fingerprint was computed from: files, and settings that are not in files
    config_fingerprint  of the configuration files only, which `warning` is about
    steps         of a pipeline, which has no artifact
    is_foreign    whether its files are not in the repository
    """

    name: str
    version: str
    fingerprint: str
    artifact: Artifact | None = None
    toml: ModelToml = field(default_factory=ModelToml)
    problem: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    class_labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warning: str = ""
    readable: tuple[Path, ...] = ()
    folder: Path | None = None
    files: tuple[Path, ...] = ()
    extra: str = ""
    config_fingerprint: str = ""
    steps: tuple[Step, ...] = ()
    is_foreign: bool = False

    @property
    def declared_labels(self) -> Mapping[str, tuple[str, ...]]:
        """The labels that the configuration names: one for each class. An archive may have fewer."""
        return {output: labels for output, labels in self.class_labels.items() if output in self.toml.labels}

    def labels_of(self, signature: Signature | None) -> Mapping[str, tuple[str, ...]]:
        """Return `class_labels` by the names of outputs that a signature has."""
        if "" not in self.class_labels or signature is None or not signature.outputs:
            return self.class_labels
        return {name or signature.outputs[0].name: labels for name, labels in self.class_labels.items()}

    def unchanged(self) -> bool:
        """Return whether the files still match the fingerprint. If they do not, what was loaded may be inconsistent."""
        try:
            return not self.files or fingerprint_of(*self.files, extra=self.extra) == self.fingerprint
        except OSError:
            return False  # a file cannot be accessed now


def with_runtime(config: ModelConfig, is_available: Callable[[Runtime], bool]) -> ModelConfig:
    """Choose between the artifact's runtime and its fallback, by which of them this machine can run."""
    if config.artifact is None or config.artifact.fallback is None:
        return config
    return replace(config, artifact=resolve_runtime(config.artifact, is_available))
