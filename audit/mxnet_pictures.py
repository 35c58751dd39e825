"""Steps for images [n, channels, height, width] that keep rows independent; see `mxnet_graphs.py`."""

import mxnet as mx
from mxnet_steps import batch_norm

S = mx.sym


def convolution(b, x):
    return S.Convolution(x, num_filter=6, kernel=(3, 3), pad=(1, 1), stride=b.random.choice([(1, 1), (2, 2)]))


def depthwise(b, x):
    size = b.sizes(x)[0]
    return S.Convolution(x, num_filter=size, num_group=size, kernel=(3, 3), pad=(1, 1))


def deconvolution(b, x):
    return S.Deconvolution(x, num_filter=3, kernel=(2, 2), stride=(2, 2))


def pooled(b, x):
    convention = b.random.choice(["valid", "full"])
    return S.Pooling(x, kernel=(2, 2), pool_type=b.random.choice(["max", "avg"]), pooling_convention=convention)


def global_pool(b, x):
    return S.Flatten(S.Pooling(x, kernel=(1, 1), global_pool=True, pool_type="avg"))


def upsampled(b, x):
    return S.UpSampling(x, scale=2, sample_type="nearest")


def resized(b, x):
    return S.contrib.BilinearResize2D(x, height=6, width=6)


def padded(b, x):
    return S.pad(x, mode="edge", pad_width=(0, 0, 0, 0, 1, 1, 1, 1))


PICTURE = [
    convolution,
    convolution,
    depthwise,
    deconvolution,
    pooled,
    global_pool,
    upsampled,
    resized,
    padded,
    batch_norm,
]
