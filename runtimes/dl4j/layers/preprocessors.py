"""What DL4J does to a layer's input first (conf/preprocessor)."""

from typing import Callable, List, Optional, Tuple

from ..configuration import Preprocessor, preprocessor
from ..registry import PREPROCESSORS, Shape, Takes, Translate, covers, same, translate
from ..settings import Settings
from ..site import Site
from ..values import Value


def _covers(kind: str, shown: str, takes: Takes = same) -> Callable[[Translate], Translate]:
    return covers(PREPROCESSORS, kind, source="conf/preprocessor/" + kind, shown=shown, takes=takes)


def _image(settings: Settings) -> Tuple[int, ...]:
    """Channels, height, width, as the file says them; -1 where it says none."""
    return tuple(settings.integer(name, 0) or -1 for name in ("numChannels", "inputHeight", "inputWidth"))


def _cnn_sizes(settings: Settings) -> Tuple[int, ...]:
    channels, height, width = _image(settings)
    last = settings.flag_of_format("format", "NCHW", "NHWC")
    return (height, width, channels) if last else (channels, height, width)


def _volume(settings: Settings) -> Tuple[int, ...]:
    channels, height, width = _image(settings)
    depth = settings.integer("inputDepth", least=1)
    first = settings.flag("isNCDHW", True)
    if settings.flag("ncdhw", first) != first:  # the same, by another name
        settings.refuse("its fields 'isNCDHW' and 'ncdhw' differ")
    return (channels, depth, height, width) if first else (depth, height, width, channels)


def _flat(sizes: Tuple[int, ...]) -> int:
    total = 1
    for size in sizes:
        if size < 0:
            return -1
        total *= size
    return total


@_covers("CnnToFeedForwardPreProcessor", "stored", lambda settings, behind: _cnn_sizes(settings))
def cnn_to_feed_forward(site: Site) -> Value:
    value = site.input
    if len(value.sizes) == 1:
        return value
    value = _checked(site, _cnn_sizes(site.settings))
    return site.reshape(value, (_flat(value.sizes),))


@_covers("Cnn3DToFeedForwardPreProcessor", "computed", lambda settings, behind: _volume(settings))
def volume_to_feed_forward(site: Site) -> Value:
    value = site.input
    if len(value.sizes) == 1:
        return value
    value = _checked(site, _volume(site.settings))
    return site.reshape(value, (_flat(value.sizes),))


def _checked(site: Site, sizes: Tuple[int, ...]) -> Value:
    """Of these sizes, which its input may not have told before."""
    value = site.of(len(sizes), *sizes)
    return value._replace(sizes=tuple(max(pair) for pair in zip(value.sizes, sizes)))


def _flat_image(settings: Settings) -> Optional[Tuple[int, ...]]:
    total = _flat(_image(settings))
    return None if total < 0 else (total,)


@_covers("FeedForwardToCnnPreProcessor", "computed", lambda settings, behind: _flat_image(settings))
def feed_forward_to_cnn(site: Site) -> Value:
    value, sizes = site.input, _image(site.settings)
    return value if len(value.sizes) == 3 else site.reshape(site.of(1, _flat(sizes)), sizes)


@_covers("FeedForwardToCnn3DPreProcessor", "computed", lambda settings, behind: (_flat(_volume(settings)),))
def feed_forward_to_volume(site: Site) -> Value:
    value, sizes = site.input, _volume(site.settings)
    return value if len(value.sizes) == 4 else site.reshape(site.of(1, _flat(sizes)), sizes)


def _time(site: Site) -> int:
    """Which of the sizes time is."""
    return 0 if site.flag_of_format("rnnDataFormat", "NCW", "NWC") else 1


def _sequence_of(settings: Settings, behind: Shape) -> Shape:
    if not behind or len(behind) != 1:
        return None
    return (-1, *behind) if settings.get("rnnDataFormat") == "NWC" else (*behind, -1)


@_covers("RnnToFeedForwardPreProcessor", "computed", _sequence_of)
def rnn_to_feed_forward(site: Site) -> Value:
    """Each time step becomes a row."""
    value = site.input
    return value if len(value.sizes) == 1 else site.fold(site.of(2), _time(site))


def _step_of(settings: Settings, behind: Shape) -> Shape:
    if not behind or len(behind) != 2:
        return None
    return behind[1:] if settings.get("rnnDataFormat") == "NWC" else behind[:1]


@_covers("FeedForwardToRnnPreProcessor", "computed", _step_of)
def feed_forward_to_rnn(site: Site) -> Value:
    """A row for each time step becomes a sequence again; a row that never was one, a sequence of one step."""
    return _sequences(site, site.of(1))


def _sequences(site: Site, value: Value) -> Value:
    """DL4J makes as many of the rows as the network's first input has, whatever was made of those before."""
    if len(value.folds) > 1:
        site.refuse("its rows are stacked, or steps of steps, of which DL4J would make other sequences")
    time = _time(site)
    if value.folds:
        return site.unfold(value, time)
    size = value.sizes[0]
    return site.reshape(value, (1, size) if time == 0 else (size, 1))


@_covers("RnnToCnnPreProcessor", "computed", lambda settings, behind: (_flat(_image(settings)), -1))
def rnn_to_cnn(site: Site) -> Value:
    """Each time step becomes an image."""
    sizes = _image(site.settings)
    return site.reshape(site.fold(site.of(2), _time(site)), sizes)


@_covers("CnnToRnnPreProcessor", "computed", lambda settings, behind: _image(settings))
def cnn_to_rnn(site: Site) -> Value:
    value = _checked(site, _image(site.settings))
    return _sequences(site, site.reshape(value, (_flat(value.sizes),)))


def _first(settings: Settings, behind: Shape) -> Shape:
    for each in reversed(_within(settings)):
        behind = PREPROCESSORS[each.kind].takes(each.settings, behind) if each.kind in PREPROCESSORS else None
    return behind


@_covers("ComposableInputPreProcessor", "computed", _first)
def one_after_another(site: Site) -> Value:
    value = site.input
    for each in _within(site.settings):
        value = translate(
            Site(each.kind, each.settings, [value], site.graph, site.parameters, site.choices), PREPROCESSORS
        )
    return value


def _within(settings: Settings) -> List[Preprocessor]:
    given = settings.get("inputPreProcessors")
    found = [preprocessor(each, settings.where) for each in given] if isinstance(given, list) else [None]
    if None in found:
        settings.refuse("it holds no list of preprocessors")
    return [each for each in found if each is not None]
