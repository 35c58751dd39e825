"""Which layers, vertices and preprocessors are covered, and how sure their numbers are."""

from typing import Callable, Dict, NamedTuple, Optional, Tuple

from runtimes.dl4j.configuration import inner_layer
from runtimes.dl4j.settings import Settings
from runtimes.dl4j.site import Site
from runtimes.dl4j.values import Value

# What a layer's input looks like: sizes after the rows, -1 for any. None: it takes whatever comes.
Takes = Callable[[Settings], Optional[Tuple[int, ...]]]
_MOST_WRAPPERS = 16


class Entry(NamedTuple):
    """
    source  where DL4J computes it: a class of deeplearning4j-nn, below org.deeplearning4j.nn
    shown   what confirms the numbers: "stored", outputs that DL4J itself left beside a model; "computed", an
            independent implementation of what DL4J's source says; "" for nothing, which is served only where the
            user allows it
    """

    translate: Callable[[Site], Value]
    source: str
    shown: str
    takes: Takes


LAYERS: Dict[str, Entry] = {}
VERTICES: Dict[str, Entry] = {}
PREPROCESSORS: Dict[str, Entry] = {}


def anything(settings: Settings) -> None:
    return None


def covers(
    table: Dict[str, Entry], *kinds: str, source: str, shown: str, takes: Takes = anything
) -> Callable[[Callable[[Site], Value]], Callable[[Site], Value]]:
    def add(translate: Callable[[Site], Value]) -> Callable[[Site], Value]:
        for kind in kinds:
            table[kind] = Entry(translate, source, shown, takes)
        return translate

    return add


def translate(site: Site, table: Dict[str, Entry]) -> Value:
    """Raises LoadError, by the layer's name, for what is not covered or not confirmed."""
    entry = table.get(site.kind)
    if entry is None:
        site.refuse("%.120s is not covered" % site.kind)
    if not entry.shown and not site.allow_unverified:
        site.refuse(
            "%s is covered, but nothing confirms its numbers: allow_unverified = true in [parameters] serves it "
            "all the same" % site.kind
        )
    return entry.translate(site)


def translate_inner(site: Site, field: str, *inputs: Value) -> Value:
    """The layer that a wrapper holds, on the wrapper's inputs or others."""
    if site.depth == _MOST_WRAPPERS:
        site.refuse("it is wrapped more than %d times" % _MOST_WRAPPERS)
    kind, settings = inner_layer(site.settings, field)
    within = Site(
        kind,
        settings,
        list(inputs or site.inputs),
        site.graph,
        site.parameters,
        site.allow_unverified,
        site.depth + 1,
    )
    return translate(within, LAYERS)


def takes_inner(field: str) -> Takes:
    def takes(settings: Settings) -> Optional[Tuple[int, ...]]:
        kind, inner = inner_layer(settings, field)
        return LAYERS[kind].takes(inner) if kind in LAYERS else None

    return takes


def flat(settings: Settings) -> Tuple[int, ...]:
    return (settings.integer("nIn", least=1),)


def series(settings: Settings) -> Tuple[int, ...]:
    return _with_channels(settings, "rnnDataFormat", "NWC", 1)


def image(settings: Settings) -> Tuple[int, ...]:
    return _with_channels(settings, "cnn2dDataFormat", "NHWC", 2)


def volume(settings: Settings) -> Tuple[int, ...]:
    return _with_channels(settings, "dataFormat", "NDHWC", 3)


def of_rank(rank: int) -> Takes:
    """For layers that say no channels."""
    return lambda settings: (-1,) * rank


def _with_channels(settings: Settings, field: str, last: str, others: int) -> Tuple[int, ...]:
    channels = settings.integer("nIn", -1, least=-1) or -1
    return (*[-1] * others, channels) if settings.get(field) == last else (channels, *[-1] * others)
