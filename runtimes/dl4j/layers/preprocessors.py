"""What DL4J does to a layer's input first (conf/preprocessor)."""

from typing import Callable, List, Optional, Tuple

from ..configuration import Preprocessor, preprocessor
from ..context import TranslationContext
from ..registry import PREPROCESSORS, Shape, Takes, Translate, covers, same, translate
from ..settings import Settings
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
def cnn_to_feed_forward(context: TranslationContext) -> Value:
    value = context.input
    if len(value.sizes) == 1:
        return value
    value = _checked(context, _cnn_sizes(context.settings))
    return context.reshape(value, (_flat(value.sizes),))


@_covers("Cnn3DToFeedForwardPreProcessor", "computed", lambda settings, behind: _volume(settings))
def volume_to_feed_forward(context: TranslationContext) -> Value:
    value = context.input
    if len(value.sizes) == 1:
        return value
    value = _checked(context, _volume(context.settings))
    return context.reshape(value, (_flat(value.sizes),))


def _checked(context: TranslationContext, sizes: Tuple[int, ...]) -> Value:
    """Of these sizes, which its input may not have told before."""
    value = context.of(len(sizes), *sizes)
    return value._replace(sizes=tuple(max(pair) for pair in zip(value.sizes, sizes)))


def _flat_image(settings: Settings) -> Optional[Tuple[int, ...]]:
    total = _flat(_image(settings))
    return None if total < 0 else (total,)


@_covers("FeedForwardToCnnPreProcessor", "computed", lambda settings, behind: _flat_image(settings))
def feed_forward_to_cnn(context: TranslationContext) -> Value:
    value, sizes = context.input, _image(context.settings)
    return value if len(value.sizes) == 3 else context.reshape(context.of(1, _flat(sizes)), sizes)


@_covers("FeedForwardToCnn3DPreProcessor", "computed", lambda settings, behind: (_flat(_volume(settings)),))
def feed_forward_to_volume(context: TranslationContext) -> Value:
    value, sizes = context.input, _volume(context.settings)
    return value if len(value.sizes) == 4 else context.reshape(context.of(1, _flat(sizes)), sizes)


def _time(context: TranslationContext) -> int:
    """Which of the sizes time is."""
    return 0 if context.flag_of_format("rnnDataFormat", "NCW", "NWC") else 1


def _sequence_of(settings: Settings, behind: Shape) -> Shape:
    if not behind or len(behind) != 1:
        return None
    return (-1, *behind) if settings.get("rnnDataFormat") == "NWC" else (*behind, -1)


@_covers("RnnToFeedForwardPreProcessor", "computed", _sequence_of)
def rnn_to_feed_forward(context: TranslationContext) -> Value:
    """Each time step becomes a row."""
    value = context.input
    return value if len(value.sizes) == 1 else context.fold(context.of(2), _time(context))


def _step_of(settings: Settings, behind: Shape) -> Shape:
    if not behind or len(behind) != 2:
        return None
    return behind[1:] if settings.get("rnnDataFormat") == "NWC" else behind[:1]


@_covers("FeedForwardToRnnPreProcessor", "computed", _step_of)
def feed_forward_to_rnn(context: TranslationContext) -> Value:
    """A row for each time step becomes a sequence again; a row that never was one, a sequence of one step."""
    return _sequences(context, context.of(1))


def _sequences(context: TranslationContext, value: Value) -> Value:
    """DL4J makes as many of the rows as the network's first input has, whatever was made of those before."""
    if len(value.folds) > 1:
        context.refuse("its rows are stacked, or steps of steps, of which DL4J would make other sequences")
    time = _time(context)
    if value.folds:
        return context.unfold(value, time)
    size = value.sizes[0]
    return context.reshape(value, (1, size) if time == 0 else (size, 1))


@_covers("RnnToCnnPreProcessor", "computed", lambda settings, behind: (_flat(_image(settings)), -1))
def rnn_to_cnn(context: TranslationContext) -> Value:
    """Each time step becomes an image."""
    sizes = _image(context.settings)
    return context.reshape(context.fold(context.of(2), _time(context)), sizes)


@_covers("CnnToRnnPreProcessor", "computed", lambda settings, behind: _image(settings))
def cnn_to_rnn(context: TranslationContext) -> Value:
    value = _checked(context, _image(context.settings))
    return _sequences(context, context.reshape(value, (_flat(value.sizes),)))


def _first(settings: Settings, behind: Shape) -> Shape:
    for each in reversed(_within(settings)):
        behind = PREPROCESSORS[each.kind].takes(each.settings, behind) if each.kind in PREPROCESSORS else None
    return behind


@_covers("ComposableInputPreProcessor", "computed", _first)
def one_after_another(context: TranslationContext) -> Value:
    value = context.input
    for each in _within(context.settings):
        value = translate(
            TranslationContext(each.kind, each.settings, [value], context.graph, context.parameters, context.choices),
            PREPROCESSORS,
        )
    return value


def _within(settings: Settings) -> List[Preprocessor]:
    given = settings.get("inputPreProcessors")
    found = [preprocessor(each, settings.where) for each in given] if isinstance(given, list) else [None]
    if None in found:
        settings.refuse("it holds no list of preprocessors")
    return [each for each in found if each is not None]
