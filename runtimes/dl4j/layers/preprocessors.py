"""Input preprocessors, which DL4J applies before a layer (conf/preprocessor)."""

from typing import Callable, List, Optional, Tuple

from ..configuration import Preprocessor, preprocessor
from ..context import TranslationContext
from ..registry import PREPROCESSORS, InferInput, Shape, Translate, covers, same, translate
from ..settings import Settings
from ..values import Value


def _covers(kind: str, evidence: str, infer_input: InferInput = same) -> Callable[[Translate], Translate]:
    return covers(PREPROCESSORS, kind, source="conf/preprocessor/" + kind, evidence=evidence, infer_input=infer_input)


def _image(settings: Settings) -> Tuple[int, ...]:
    """Return channels, height and width from the file; -1 for each that it does not have."""
    return tuple(settings.integer(name, 0) or -1 for name in ("numChannels", "inputHeight", "inputWidth"))


def _cnn_sizes(settings: Settings) -> Tuple[int, ...]:
    channels, height, width = _image(settings)
    last = settings.channels_last("format", "NCHW", "NHWC")
    return (height, width, channels) if last else (channels, height, width)


def _volume(settings: Settings) -> Tuple[int, ...]:
    channels, height, width = _image(settings)
    depth = settings.integer("inputDepth", minimum=1)
    first = settings.flag("isNCDHW", True)
    if settings.flag("ncdhw", first) != first:  # another name of the same field
        settings.refuse("its fields 'isNCDHW' and 'ncdhw' differ")
    return (channels, depth, height, width) if first else (depth, height, width, channels)


def _flat(sizes: Tuple[int, ...]) -> int:
    total = 1
    for size in sizes:
        if size < 0:
            return -1
        total *= size
    return total


@_covers("CnnToFeedForwardPreProcessor", "stored", lambda settings, output: _cnn_sizes(settings))
def cnn_to_feed_forward(context: TranslationContext) -> Value:
    value = context.input
    if len(value.sizes) == 1:
        return value
    value = _checked(context, _cnn_sizes(context.settings))
    return context.reshape(value, (_flat(value.sizes),))


@_covers("Cnn3DToFeedForwardPreProcessor", "computed", lambda settings, output: _volume(settings))
def volume_to_feed_forward(context: TranslationContext) -> Value:
    value = context.input
    if len(value.sizes) == 1:
        return value
    value = _checked(context, _volume(context.settings))
    return context.reshape(value, (_flat(value.sizes),))


def _checked(context: TranslationContext, sizes: Tuple[int, ...]) -> Value:
    """Return the input after checking its sizes; those that were dynamic before become known."""
    value = context.checked_input(len(sizes), *sizes)
    return value._replace(sizes=tuple(max(pair) for pair in zip(value.sizes, sizes)))


def _flat_image(settings: Settings) -> Optional[Tuple[int, ...]]:
    total = _flat(_image(settings))
    return None if total < 0 else (total,)


@_covers("FeedForwardToCnnPreProcessor", "computed", lambda settings, output: _flat_image(settings))
def feed_forward_to_cnn(context: TranslationContext) -> Value:
    value, sizes = context.input, _image(context.settings)
    return value if len(value.sizes) == 3 else context.reshape(context.checked_input(1, _flat(sizes)), sizes)


@_covers("FeedForwardToCnn3DPreProcessor", "computed", lambda settings, output: (_flat(_volume(settings)),))
def feed_forward_to_volume(context: TranslationContext) -> Value:
    value, sizes = context.input, _volume(context.settings)
    return value if len(value.sizes) == 4 else context.reshape(context.checked_input(1, _flat(sizes)), sizes)


def _time(context: TranslationContext) -> int:
    """Return the index of the time steps among the sizes."""
    return 0 if context.channels_last("rnnDataFormat", "NCW", "NWC") else 1


def _sequence_of(settings: Settings, output: Shape) -> Shape:
    if not output or len(output) != 1:
        return None
    return (-1, *output) if settings.get("rnnDataFormat") == "NWC" else (*output, -1)


@_covers("RnnToFeedForwardPreProcessor", "computed", _sequence_of)
def rnn_to_feed_forward(context: TranslationContext) -> Value:
    """Each time step becomes a row."""
    value = context.input
    return value if len(value.sizes) == 1 else context.fold(context.checked_input(2), _time(context))


def _step_of(settings: Settings, output: Shape) -> Shape:
    if not output or len(output) != 2:
        return None
    return output[1:] if settings.get("rnnDataFormat") == "NWC" else output[:1]


@_covers("FeedForwardToRnnPreProcessor", "computed", _step_of)
def feed_forward_to_rnn(context: TranslationContext) -> Value:
    """Rows that were time steps become sequences again; other rows become sequences of one step."""
    return _sequences(context, context.checked_input(1))


def _sequences(context: TranslationContext, value: Value) -> Value:
    """DL4J always makes as many sequences as the network's first input has rows, whatever became of those rows."""
    if len(value.folds) > 1:
        context.refuse("its rows are stacked or steps of steps, which DL4J would combine into different sequences")
    time = _time(context)
    if value.folds:
        return context.unfold(value, time)
    size = value.sizes[0]
    return context.reshape(value, (1, size) if time == 0 else (size, 1))


@_covers("RnnToCnnPreProcessor", "computed", lambda settings, output: (_flat(_image(settings)), -1))
def rnn_to_cnn(context: TranslationContext) -> Value:
    """Each time step becomes an image."""
    sizes = _image(context.settings)
    return context.reshape(context.fold(context.checked_input(2), _time(context)), sizes)


@_covers("CnnToRnnPreProcessor", "computed", lambda settings, output: _image(settings))
def cnn_to_rnn(context: TranslationContext) -> Value:
    value = _checked(context, _image(context.settings))
    return _sequences(context, context.reshape(value, (_flat(value.sizes),)))


def _first(settings: Settings, output: Shape) -> Shape:
    for each in reversed(_inner_preprocessors(settings)):
        output = PREPROCESSORS[each.kind].infer_input(each.settings, output) if each.kind in PREPROCESSORS else None
    return output


@_covers("ComposableInputPreProcessor", "computed", _first)
def one_after_another(context: TranslationContext) -> Value:
    value = context.input
    for each in _inner_preprocessors(context.settings):
        value = translate(
            TranslationContext(each.kind, each.settings, [value], context.graph, context.parameters, context.choices),
            PREPROCESSORS,
        )
    return value


def _inner_preprocessors(settings: Settings) -> List[Preprocessor]:
    given = settings.get("inputPreProcessors")
    found = [preprocessor(each, settings.where) for each in given] if isinstance(given, list) else [None]
    if None in found:
        settings.refuse("its field 'inputPreProcessors' must be a list of preprocessors")
    return [each for each in found if each is not None]
