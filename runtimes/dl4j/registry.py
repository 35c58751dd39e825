"""Which layers, vertices and preprocessors are covered, and how sure their numbers are."""

from typing import Callable, Dict, NamedTuple, Optional, Tuple

from runtimes.dl4j.configuration import inner_layer
from runtimes.dl4j.settings import Settings
from runtimes.dl4j.site import Site
from runtimes.dl4j.values import Value

Shape = Optional[Tuple[int, ...]]
# What a layer's input looks like: sizes after the rows, -1 for any; None where nothing tells. It may depend on what
# those take that read its output.
Takes = Callable[[Settings, Shape], Shape]


Translate = Callable[[Site], Value]


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


def translate(site: Site, table: Dict[str, Entry]) -> Value:
    """Raises LoadError, by the layer's name, for what is not covered or not confirmed."""
    entry = table.get(site.kind)
    if entry is None:
        site.refuse("%.120s is not covered" % site.kind)
    if not entry.shown and not site.choices.allow_unverified:
        site.refuse(
            "%s is covered, but nothing confirms its numbers: allow_unverified = true in [parameters] serves it "
            "all the same" % site.kind
        )
    return entry.translate(site)


def translate_inner(site: Site, field: str, *inputs: Value) -> Value:
    """The layer that a wrapper holds, on the wrapper's inputs or others."""
    kind, settings = inner_layer(site.settings, field)
    within = Site(
        kind,
        settings,
        list(inputs or site.inputs),
        site.graph,
        site.parameters,
        site.choices,
    )
    return translate(within, LAYERS)


def takes_inner(field: str) -> Takes:
    def takes(settings: Settings, behind: Shape) -> Shape:
        kind, inner = inner_layer(settings, field)
        return LAYERS[kind].takes(inner, behind) if kind in LAYERS else None

    return takes


def flat(settings: Settings, behind: Shape) -> Shape:
    return (settings.integer("nIn", least=1),)


def series(settings: Settings, behind: Shape) -> Shape:
    return _with_channels(settings, "rnnDataFormat", "NWC", 1)


def image(settings: Settings, behind: Shape) -> Shape:
    return _with_channels(settings, "cnn2dDataFormat", "NHWC", 2)


def volume(settings: Settings, behind: Shape) -> Shape:
    return _with_channels(settings, "dataFormat", "NDHWC", 3)


def of_rank(rank: int) -> Takes:
    """For layers that say no channels."""
    return lambda settings, behind: behind if behind and len(behind) == rank else (-1,) * rank


def _with_channels(settings: Settings, field: str, last: str, others: int) -> Tuple[int, ...]:
    channels = settings.integer("nIn", -1, least=-1) or -1
    return (*[-1] * others, channels) if settings.get(field) == last else (channels, *[-1] * others)
