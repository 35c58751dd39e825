"""Matches the signatures of a pipeline's steps against each other and against what is declared. Pure functions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.domain.pipeline import Step
from gateway.domain.tensor_checks import can_fit, describe_shape
from gateway.domain.types import ModelStatus, complete_specs
from gateway.repository.model_toml import DeclaredTensor, ModelToml
from gateway.repository.pipeline_graph import own_inputs, own_outputs
from runtimes.contract import Signature, TensorSpec


class Mismatch(Exception):
    """The message is one sentence that names the step."""


class PipelineInterface(NamedTuple):
    """What clients see of a pipeline: see the fields of ModelStatus with these names."""

    signature: Signature
    learned: Signature | None
    max_batch_size: int
    class_labels: Mapping[str, Sequence[str]]


class _End(NamedTuple):
    """One side of a connection: an input or output of a model, or of the pipeline.

    is_use  whether it is the input of a step, and stands for an input that the pipeline does not declare
    """

    name: str
    spec: TensorSpec
    is_use: bool = False


def pipeline_interface(
    steps: Sequence[Step], models: Sequence[ModelStatus], toml: ModelToml, class_labels: Mapping[str, Sequence[str]]
) -> PipelineInterface:
    """Return what clients see. Raises Mismatch if the steps do not fit together.

    models  of each step, which have been loaded
    """
    signature = _connect(steps, [_signature(model) for model in models], toml)
    learned = None
    if any(model.learned for model in models):
        learned = _join(steps, [_learned(model) for model in models], toml)
    labels = {**_labels(steps, models, [spec.name for spec in signature.outputs]), **class_labels}
    return PipelineInterface(signature, learned, _max_batch_size(models, toml, signature), labels)


def _signature(model: ModelStatus) -> Signature:
    return model.signature() or Signature((), ())


def _learned(model: ModelStatus) -> Signature:
    """Return the default signature with what the first successful request revealed."""
    signature, learned = _signature(model), model.learned or Signature((), ())
    return signature._replace(
        inputs=tuple(complete_specs(signature.inputs or learned.inputs, learned.inputs)),
        outputs=tuple(complete_specs(signature.outputs or learned.outputs, learned.outputs)),
    )


def _max_batch_size(models: Sequence[ModelStatus], toml: ModelToml, signature: Signature) -> int:
    """Return the rows that the pipeline declares. Without that, it has rows if all its steps have.

    As in Triton, one that declares rows may have steps without, if the shapes fit. The largest batches of its steps
    may be smaller, because requests with more rows run in pieces.
    """
    if toml.max_batch_size is not None:
        return toml.max_batch_size
    shapes = [spec.shape for spec in (*signature.inputs, *signature.outputs) if spec.shape is not None]
    has_rows = all(model.has_rows and not model.batch_dim for model in models) and all(
        shape[:1] == (-1,) for shape in shapes
    )
    return min(max(model.max_batch_size, 1) for model in models) if has_rows else 0


def _connect(steps: Sequence[Step], signatures: Sequence[Signature], toml: ModelToml) -> Signature:
    """Check every connection, and return the pipeline's signature. Raises Mismatch."""
    sources: dict[str, list[_End]] = {}
    for declared in toml.inputs:
        sources[declared.name] = [_End(f"the input '{declared.name}' of the pipeline", declared.spec())]
    for step, signature in zip(steps, signatures, strict=True):
        for name, tensor in step.outputs.items():
            sources.setdefault(tensor, []).append(
                _End(f"output '{name}' of step '{step}'", _output(step, signature, name))
            )
    for step, signature in zip(steps, signatures, strict=True):
        _check_inputs(step, signature)
        for spec in signature.inputs:
            if spec.name in step.inputs:
                _check_ends(sources, step.inputs[spec.name], _End(f"input '{spec.name}' of step '{step}'", spec))
        if step.when:
            condition = TensorSpec(step.when.tensor, "BOOL", None)
            _check_ends(sources, step.when.tensor, _End(f"'when' of step '{step}'", condition))
            _check_one_element(sources[step.when.tensor], step)
    for declared in toml.outputs:
        _check_ends(sources, declared.name, _End(f"the output '{declared.name}' of the pipeline", declared.spec()))
    return _join(steps, signatures, toml)


def _check_one_element(sources: Sequence[_End], step: Step) -> None:
    for source in sources:
        if any(size not in (1, -1) for size in source.spec.shape or ()):
            shape = describe_shape(source.spec.shape or ())
            raise Mismatch(f"'when' of step '{step}' needs one element, but {source.name} has shape {shape}")


def _check_inputs(step: Step, signature: Signature) -> None:
    known = [spec.name for spec in signature.inputs]
    for name in step.inputs:
        if name in [spec.name for spec in signature.unbatched]:
            raise Mismatch(f"input '{name}' of its step '{step}' has no rows, and pipelines give none of these")
        if name not in known:
            raise Mismatch(f"its step '{step}' has no input '{name}'; it has {_names(known)}")
    for name in signature.needed_for(list(step.outputs)):
        if name not in step.inputs:
            raise Mismatch(f"its step '{step}' needs the input '{name}', to which no tensor is mapped")


def _output(step: Step, signature: Signature, name: str) -> TensorSpec:
    """Return the spec of a step's output. Raises Mismatch. If a model's outputs are unknown, so is the spec."""
    if name in signature.refused:
        raise Mismatch(f"output '{name}' of its step '{step}' cannot be served: {signature.refused[name]}")
    found = next((spec for spec in signature.outputs if spec.name == name), None)
    if found is None and signature.outputs:
        known = _names(spec.name for spec in signature.outputs)
        raise Mismatch(f"its step '{step}' has no output '{name}'; it has {known}")
    return found or TensorSpec(name, "", None)


def _check_ends(sources: dict[str, list[_End]], tensor: str, target: _End) -> None:
    """Raises Mismatch if the target cannot take the tensor.

    A tensor without a source is an input that the pipeline does not declare: its uses declare it, and must fit each
    other.
    """
    known = sources.setdefault(tensor, [])
    for source in known:
        given, wanted = source.spec, target.spec
        if given.datatype and wanted.datatype and given.datatype != wanted.datatype:
            raise Mismatch(
                f"{target.name} is {wanted.datatype}, but {source.name} is {given.datatype}; make them equal"
            )
        if given.shape is not None and wanted.shape is not None and not can_fit(given.shape, wanted.shape):
            raise Mismatch(
                f"{target.name} has shape {describe_shape(wanted.shape)}, but {source.name} has shape "
                f"{describe_shape(given.shape)}; make them fit"
            )
    if all(source.is_use for source in known):
        known.append(target._replace(is_use=True))


def _join(steps: Sequence[Step], signatures: Sequence[Signature], toml: ModelToml) -> Signature:
    """Return the pipeline's signature: what is declared, completed by what its steps say."""
    used: dict[str, TensorSpec] = {}
    made: dict[str, TensorSpec] = {}
    for step, signature in zip(steps, signatures, strict=True):
        for specs, mapped, found, join in (
            (signature.inputs, step.inputs, used, _narrow),
            (signature.outputs, step.outputs, made, _widen),
        ):
            known = {spec.name: spec for spec in specs}
            for name, tensor in mapped.items():
                spec = known.get(name, TensorSpec(name, "", None))._replace(name=tensor)
                found[tensor] = join(found[tensor], spec) if tensor in found else spec
        if step.when:
            used.setdefault(step.when.tensor, TensorSpec(step.when.tensor, "BOOL", None))
    inputs = _complete(toml.inputs, own_inputs(steps), used)
    outputs = _complete(toml.outputs, own_outputs(steps), made)
    optional = tuple(spec.name for spec in inputs if _is_optional(spec.name, steps, signatures))
    return Signature(tuple(inputs), tuple(outputs), {}, optional)


def _is_optional(tensor: str, steps: Sequence[Step], signatures: Sequence[Signature]) -> bool:
    """Return whether every step that uses an input can do without it."""
    uses = [
        name not in signature.needed_for(list(step.outputs))
        for step, signature in zip(steps, signatures, strict=True)
        for name, source in step.inputs.items()
        if source == tensor
    ]
    return bool(uses) and all(uses) and not any(step.when and step.when.tensor == tensor for step in steps)


def _complete(
    declared: Sequence[DeclaredTensor], names: Iterable[str], found: Mapping[str, TensorSpec]
) -> list[TensorSpec]:
    if not declared:
        return [found[name] for name in names]
    return complete_specs([tensor.spec() for tensor in declared], found.values())


def _narrow(first: TensorSpec, other: TensorSpec) -> TensorSpec:
    """Return what two inputs accept that get the same tensor."""
    shape = first.shape or other.shape
    if first.shape is not None and other.shape is not None:
        shape = tuple(b if a == -1 else a for a, b in zip(first.shape, other.shape, strict=False))
    return TensorSpec(first.name, first.datatype or other.datatype, shape)


def _widen(first: TensorSpec, other: TensorSpec) -> TensorSpec:
    """Return what either of two outputs makes."""
    shape = None
    if first.shape is not None and other.shape is not None and len(first.shape) == len(other.shape):
        shape = tuple(a if a == b else -1 for a, b in zip(first.shape, other.shape, strict=True))
    return TensorSpec(first.name, first.datatype if first.datatype == other.datatype else "", shape)


def _labels(steps: Sequence[Step], models: Sequence[ModelStatus], outputs: Iterable[str]) -> dict[str, Sequence[str]]:
    """Return the labels of the outputs as the producing steps have them."""
    found: dict[str, list[Sequence[str]]] = {}
    for step, model in zip(steps, models, strict=True):
        for name, tensor in step.outputs.items():
            found.setdefault(tensor, []).append(tuple(model.class_labels.get(name, ())))
    return {name: found[name][0] for name in outputs if len(set(found.get(name, [()]))) == 1 and found[name][0]}


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
