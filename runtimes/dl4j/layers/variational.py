"""VariationalAutoencoder: in inference, DL4J computes only the encoder, without sampling."""

from typing import List

from ..activations import activated
from ..context import TranslationContext
from ..registry import LAYERS, covers, flat
from ..settings import Settings, Tagged, tagged
from ..values import Value

_PARAMETERS_PER_VALUE = {
    "BernoulliReconstructionDistribution": 1,
    "ExponentialReconstructionDistribution": 1,
    "GaussianReconstructionDistribution": 2,
    "LossFunctionWrapper": 1,
}
_COMPOSITE = "CompositeReconstructionDistribution"
_MAX_LAYERS = 64


@covers(
    LAYERS,
    "VariationalAutoencoder",
    source="layers/variational/VariationalAutoencoder",
    evidence="computed",
    infer_input=flat,
)
def encoder(context: TranslationContext) -> Value:
    """The means of q(z|x). The last parameters are those of its variances and of the decoder."""
    settings = context.settings
    inputs, outputs = settings.integer("nIn", minimum=1), settings.integer("nOut", minimum=1)
    value = context.checked_input(1, inputs)
    widths = [inputs, *_widths(context, "encoderLayerSizes")]
    for rows, columns in zip(widths, widths[1:]):
        value = activated(context, _linear(context, value, rows, columns))
    means = _linear(context, value, widths[-1], outputs)
    _skip(context, widths[-1], outputs)
    widths = [outputs, *_widths(context, "decoderLayerSizes")]
    for rows, columns in zip(widths, widths[1:]):
        _skip(context, rows, columns)
    _skip(context, widths[-1], _distribution_size(context, settings.tagged("outputDistribution"), inputs))
    final = Settings(settings.where, {"activationFn": settings.tagged("pzxActivationFn").fields})
    return activated(TranslationContext(context.kind, final, [means], context.graph, context.parameters), means)


def _linear(context: TranslationContext, value: Value, rows: int, columns: int) -> Value:
    weights = context.constant(context.take([rows, columns], "F"))
    bias = context.constant(context.take([columns], "C"), "bias")
    return context.value(context.emit("Add", context.emit("MatMul", value.name, weights), bias), [columns], value)


def _skip(context: TranslationContext, rows: int, columns: int) -> None:
    context.take([rows + 1, columns], "C")


def _widths(context: TranslationContext, field: str) -> List[int]:
    found = context.settings.list_of_integers(field)
    if not found or len(found) > _MAX_LAYERS or min(found) < 1:
        context.refuse("its field '%s' must be a list of up to %d sizes" % (field, _MAX_LAYERS))
    return list(found)


def _distribution_size(context: TranslationContext, found: Tagged, size: int) -> int:
    """Return how many parameters a distribution of this many values has."""
    if found.kind in _PARAMETERS_PER_VALUE:
        return size * _PARAMETERS_PER_VALUE[found.kind]
    if found.kind != _COMPOSITE:
        context.refuse("its distribution %.60s is not covered" % found.kind)
    parts = [tagged(each) for each in found.fields.get("reconstructionDistributions") or ()]
    sizes = Settings(context.settings.where, found.fields).list_of_integers("distributionSizes") or ()
    if len(parts) != len(sizes) or sum(sizes) != size or min(sizes, default=0) < 1:
        context.refuse("the parts of its distribution do not match its %d values" % size)
    if any(part is None or part.kind not in _PARAMETERS_PER_VALUE for part in parts):
        context.refuse("a part of its distribution is not covered")
    return sum(each * _PARAMETERS_PER_VALUE[part.kind] for each, part in zip(sizes, parts) if part)
