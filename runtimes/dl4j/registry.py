"""Which layers, vertices and preprocessors are covered, and how sure their numbers are."""

from typing import Callable, Dict, NamedTuple, Optional, Tuple

from .configuration import inner_layer
from .context import TranslationContext
from .settings import Settings
from .values import Value

Shape = Optional[Tuple[int, ...]]
# What a layer's input looks like: sizes after the rows, -1 for any; None where nothing tells. It may depend on what
# those take that read its output.
Takes = Callable[[Settings, Shape], Shape]
Places = Callable[[Settings, Tuple[int, ...]], Tuple[int, ...]]


Translate = Callable[[TranslationContext], Value]


class Entry(NamedTuple):
    """
    source  where DL4J computes it: a class of deeplearning4j-nn, below org.deeplearning4j.nn
    shown   what confirms the numbers: "stored", outputs that DL4J itself left beside a model; "computed", an
            independent implementation of what DL4J's source says; "" for nothing, which is served only where the
            user allows it
    """

    translate: Translate
    source: str
    shown: str
    takes: Takes


LAYERS: Dict[str, Entry] = {}
VERTICES: Dict[str, Entry] = {}
PREPROCESSORS: Dict[str, Entry] = {}


def same(settings: Settings, behind: Shape) -> Shape:
    """For what leaves its input's sizes as they are."""
    return behind


def unknown(settings: Settings, behind: Shape) -> Shape:
    return None


def other_channels(settings: Settings, behind: Shape) -> Shape:
    """For what leaves all sizes but the first."""
    return (-1, *behind[1:]) if behind else None


def covers(
    table: Dict[str, Entry], *kinds: str, source: str, shown: str, takes: Takes = same
) -> Callable[[Translate], Translate]:
    def add(translate: Translate) -> Translate:
        for kind in kinds:
            table[kind] = Entry(translate, source, shown, takes)
        return translate

    return add


def translate(context: TranslationContext, table: Dict[str, Entry]) -> Value:
    """Raises LoadError, by the layer's name, for what is not covered or not confirmed."""
    entry = table.get(context.kind)
    if entry is None:
        context.refuse("%.120s is not covered" % context.kind)
    if not entry.shown and not context.choices.allow_unverified:
        context.refuse(
            "%s is covered, but nothing confirms its numbers: allow_unverified = true in [parameters] serves it "
            "all the same" % context.kind
        )
    return entry.translate(context)


def translate_inner(context: TranslationContext, field: str, *inputs: Value) -> Value:
    """The layer that a wrapper holds, on the wrapper's inputs or others."""
    kind, settings = inner_layer(context.settings, field)
    within = TranslationContext(
        kind,
        settings,
        list(inputs or context.inputs),
        context.graph,
        context.parameters,
        context.choices,
    )
    return translate(within, LAYERS)


def takes_inner(field: str) -> Takes:
    def takes(settings: Settings, behind: Shape) -> Shape:
        kind, inner = inner_layer(settings, field)
        return LAYERS[kind].takes(inner, behind) if kind in LAYERS else None

    return takes


def flat(settings: Settings, behind: Shape) -> Shape:
    return (settings.integer("nIn", least=1),)


def same_places(settings: Settings, places: Tuple[int, ...]) -> Tuple[int, ...]:
    return places


def unknown_places(settings: Settings, places: Tuple[int, ...]) -> Tuple[int, ...]:
    return (-1,) * len(places)


def spatial(dimensions: int, before: Places, *formats: str) -> Takes:
    """For layers on channels and places: time steps, or rows and columns.

    before   the output's places → the input's, -1 where several would do or none is known
    formats  what fields say where the channels come last
    """

    def takes(settings: Settings, behind: Shape) -> Shape:
        last = any(settings.get(field) in formats for field in _FORMAT_FIELDS)
        channels, places = -1, (-1,) * dimensions
        if behind and len(behind) == dimensions + 1:
            channels, places = (behind[-1], behind[:-1]) if last else (behind[0], behind[1:])
        told = settings.integer("nIn", 0, least=-1)
        channels, places = told if told > 0 else channels, before(settings, places)
        return (*places, channels) if last else (channels, *places)

    return takes


_FORMAT_FIELDS = ("cnn2dDataFormat", "rnnDataFormat", "dataFormat", "format")
series = spatial(1, unknown_places, "NWC")
