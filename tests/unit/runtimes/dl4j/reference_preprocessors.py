"""org.deeplearning4j.nn.conf.preprocessor. The batch is that of the network's (first) input, or
1 in a MultiLayerNetwork whose first layer says miniBatch = false.

- Sequence to rows: row t · N + n of [N · T, features] is example n at step t in FeedForwardToRnn and CnnToRnn ('f'
  order reshapes), so time changes slowest; RnnToFeedForward and RnnToCnn use the same order.
- Image to row is the 'c' reshape of the image's format: NCHW becomes c, h, w; NHWC becomes h, w, c.
- FeedForwardToCnn always returns NCHW.
"""

from tests.unit.runtimes.dl4j.reference_parameters import Array, Configuration, kind


def rows_of(x: Array, conf: Configuration) -> Array:
    """RnnToFeedForward: [N, C, T] or [N, T, C] → [T · N, C]"""
    steps = x if conf.get("rnnDataFormat") == "NWC" else x.transpose(0, 2, 1)
    return steps.transpose(1, 0, 2).reshape(-1, steps.shape[2])


def sequence_of(rows: Array, conf: Configuration, batch: int) -> Array:
    steps = rows.reshape(-1, batch, rows.shape[1])
    return steps.transpose(1, 0, 2) if conf.get("rnnDataFormat") == "NWC" else steps.transpose(1, 2, 0)


def preprocess(x: Array, conf: Configuration, batch: int) -> Array:
    image = [conf.get(key) for key in ("numChannels", "inputHeight", "inputWidth")]
    match kind(conf):
        case "CnnToFeedForwardPreProcessor" | "Cnn3DToFeedForwardPreProcessor":
            return x.reshape(x.shape[0], -1)
        case "FeedForwardToCnnPreProcessor":
            return x if x.ndim == 4 else x.reshape(x.shape[0], *image)
        case "FeedForwardToCnn3DPreProcessor":
            channels, *rest = image[0], conf["inputDepth"], *image[1:]
            shape = [channels, *rest] if conf.get("isNCDHW", True) else [*rest, channels]
            return x if x.ndim == 5 else x.reshape(x.shape[0], *shape)
        case "RnnToFeedForwardPreProcessor":
            return x if x.ndim == 2 else rows_of(x, conf)
        case "FeedForwardToRnnPreProcessor":
            return sequence_of(x, conf, batch)
        case "CnnToRnnPreProcessor":
            return sequence_of(x.reshape(x.shape[0], -1), conf, batch)
        case "RnnToCnnPreProcessor":
            return rows_of(x, conf).reshape(-1, *image)
        case "ComposableInputPreProcessor":
            for each in conf["inputPreProcessors"]:
                x = preprocess(x, each, batch)
            return x
        case other:
            raise NotImplementedError(other)
