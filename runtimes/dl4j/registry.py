"""The layers, vertices and preprocessors that are covered, and what confirms that their numbers are right."""

from typing import Callable, Dict, NamedTuple, Optional, Tuple

from .configuration import inner_layer
from .context import TranslationContext
from .settings import Settings
from .values import Value

# Sizes after the rows, -1 for any size; None if nothing is known.
Shape = Optional[Tuple[int, ...]]
# Infers the shape of a layer's input from its settings and the shape that the readers of its output expect.
InferInput = Callable[[Settings, Shape], Shape]
# The same for the spatial sizes only, without the channels.
InferSizes = Callable[[Settings, Tuple[int, ...]], Tuple[int, ...]]
Translate = Callable[[TranslationContext], Value]


class Coverage(NamedTuple):
    """
    source    the class in DL4J that computes it: of deeplearning4j-nn, without the prefix org.deeplearning4j.nn
    evidence  what confirms the numbers: "stored", outputs that DL4J stored with a model; "computed", an independent
              implementation of DL4J's source; "" for nothing, which is served only if the user allows it
    """

    translate: Translate
    source: str
    evidence: str
    infer_input: InferInput


LAYERS: Dict[str, Coverage] = {}
VERTICES: Dict[str, Coverage] = {}
PREPROCESSORS: Dict[str, Coverage] = {}


def same(settings: Settings, output: Shape) -> Shape:
    """For layers that keep all sizes."""
    return output


def unknown(settings: Settings, output: Shape) -> Shape:
    return None


def other_channels(settings: Settings, output: Shape) -> Shape:
    """For layers that keep all sizes except the first."""
    return (-1, *output[1:]) if output else None


def covers(
    table: Dict[str, Coverage], *kinds: str, source: str, evidence: str, infer_input: InferInput = same
) -> Callable[[Translate], Translate]:
    """Register the decorated function as the translation of these classes."""

    def add(translate: Translate) -> Translate:
        for kind in kinds:
            table[kind] = Coverage(translate, source, evidence, infer_input)
        return translate

    return add


def translate(context: TranslationContext, table: Dict[str, Coverage]) -> Value:
    """Translate one node. Raises LoadError, with the layer's name, if it is not covered or not confirmed."""
    entry = table.get(context.kind)
    if entry is None:
        context.refuse("%.120s is not covered" % context.kind)
    if not entry.evidence and not context.choices.allow_unverified:
        context.refuse(
            "%s is covered, but nothing confirms its numbers: set allow_unverified = true in [parameters] to serve it "
            "anyway" % context.kind
        )
    return entry.translate(context)


def translate_inner(context: TranslationContext, field: str, *inputs: Value) -> Value:
    """Translate the layer in a wrapper's field, with the wrapper's inputs unless others are given."""
    kind, settings = inner_layer(context.settings, field)
    inner = TranslationContext(
        kind,
        settings,
        list(inputs or context.inputs),
        context.graph,
        context.parameters,
        context.choices,
    )
    return translate(inner, LAYERS)


def infer_inner_input(field: str) -> InferInput:
    """For wrappers, whose input is that of the layer in this field."""

    def infer_input(settings: Settings, output: Shape) -> Shape:
        kind, inner = inner_layer(settings, field)
        return LAYERS[kind].infer_input(inner, output) if kind in LAYERS else None

    return infer_input


def flat(settings: Settings, output: Shape) -> Shape:
    return (settings.integer("nIn", minimum=1),)


def same_sizes(settings: Settings, sizes: Tuple[int, ...]) -> Tuple[int, ...]:
    return sizes


def dynamic_sizes(settings: Settings, sizes: Tuple[int, ...]) -> Tuple[int, ...]:
    return (-1,) * len(sizes)


def spatial(dimensions: int, infer_sizes: InferSizes, *formats: str) -> InferInput:
    """For layers that work on channels and spatial sizes: time steps, or height and width.

    infer_sizes  spatial sizes of the output → those of the input, -1 if several are possible or none is known
    formats      the values of a format field with which the channels come last
    """

    def infer_input(settings: Settings, output: Shape) -> Shape:
        last = any(settings.get(field) in formats for field in _FORMAT_FIELDS)
        channels, sizes = -1, (-1,) * dimensions
        if output and len(output) == dimensions + 1:
            channels, sizes = (output[-1], output[:-1]) if last else (output[0], output[1:])
        declared = settings.integer("nIn", 0, minimum=-1)
        channels, sizes = declared if declared > 0 else channels, infer_sizes(settings, sizes)
        return (*sizes, channels) if last else (channels, *sizes)

    return infer_input


_FORMAT_FIELDS = ("cnn2dDataFormat", "rnnDataFormat", "dataFormat", "format")
series = spatial(1, dynamic_sizes, "NWC")
