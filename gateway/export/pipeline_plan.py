"""What an export of a pipeline consists of, found from files alone: its steps in order, and their models."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.domain.pipeline import Step
from gateway.export.errors import CannotExport
from gateway.export.export import ExportRequest
from gateway.export.graph import in_order
from gateway.export.routes import routes
from gateway.export.source import check_config, choose, found_at
from gateway.export.workspace import Environments
from gateway.repository.model_config import ModelConfig, with_runtime


class Plan(NamedTuple):
    """steps: in an order in which they can run. names: of each step, that of its model's folder. models: by name."""

    config: ModelConfig
    steps: Sequence[Step]
    names: Sequence[str]
    models: Mapping[str, ModelConfig]

    def steps_of(self, name: str) -> list[Step]:
        """Return the steps that run this model."""
        return [step for step, other in zip(self.steps, self.names, strict=True) if other == name]


def plan_of(request: ExportRequest, environments: Environments) -> Plan:
    """Return what is to be exported. Raises CannotExport, which names every step that cannot be and why."""
    found = found_at(request.model, request.repository, environments.known)
    config = choose(request.model, request.repository, request.version, found)
    if config.problem:
        raise CannotExport(f"model '{config.name}' cannot be served: {config.problem}")
    if request.signature:
        raise CannotExport(f"model '{config.name}' is a pipeline, which has one signature only: omit --signature")
    steps = in_order(config.steps)
    tensors = {name: None for step in steps for name in (*step.inputs.values(), *step.outputs.values())}
    if unknown := [name for name in request.shapes if name not in tensors]:
        known = ", ".join(tensors)
        raise CannotExport(f"pipeline '{config.name}' has no tensor '{unknown[0]}' for --shape; it has {known}")
    models: list[ModelConfig] = []
    reasons: dict[str, str] = {}
    for step in steps:
        try:
            models.append(_model_of(step, request, found, environments))
        except CannotExport as error:
            reasons[str(step)] = str(error)
    if reasons:
        raise refusal(config.name, request.target, steps, reasons)
    names = [_folder(model, models) for model in models]
    return Plan(config, steps, names, dict(zip(names, models, strict=True)))


def refusal(pipeline: str, target: str, steps: Sequence[Step], reasons: Mapping[str, str]) -> CannotExport:
    """reasons: step → why it cannot be exported."""
    those = ", ".join(f"step '{step}' ({reason})" for step, reason in reasons.items())
    others = ", ".join(dict.fromkeys(step.model for step in steps if str(step) not in reasons))
    rest = f": export the models of the other steps one by one, {others}" if others else ""
    return CannotExport(f"pipeline '{pipeline}' cannot be exported to {target} as a whole, because of {those}{rest}")


def _model_of(
    step: Step, request: ExportRequest, found: Sequence[ModelConfig], environments: Environments
) -> ModelConfig:
    """Raises CannotExport."""
    if step.when:
        raise CannotExport(f"it runs only when '{step.when}', and exports do not support conditions yet")
    config = choose(step.model, request.repository, _number(step, found), found)
    if config.steps:
        raise CannotExport("it is a pipeline itself, and exports do not support pipelines in pipelines yet")
    if config.problem or config.artifact is None:
        raise CannotExport(f"it cannot be served: {config.problem}")
    config = with_runtime(config, environments.is_available)
    assert config.artifact is not None
    check_config(config, ())
    routes(config.artifact.runtime.export_format(config.artifact.platform), request.target, request.precision)
    return config


def _number(step: Step, found: Sequence[ModelConfig]) -> str:
    """Return the number of the version that a step runs, which may name a label; "" for the newest."""
    labels = next((each.toml.version_labels for each in found if each.name == step.model), {})
    return str(labels[step.version]) if step.version in labels else step.version.lstrip("0")


def _folder(model: ModelConfig, models: Sequence[ModelConfig]) -> str:
    versions = {each.version for each in models if each.name == model.name}
    return f"{model.name}-{model.version}" if len(versions) > 1 else model.name
