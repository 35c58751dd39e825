"""Windows of convolutions and poolings, and how DL4J pads (ConvolutionUtils, libnd4j convolutions.h).

- Truncate and Strict: floor((in + 2 pad - effective kernel) / stride) + 1, zeros on both sides. Strict differs from
  Truncate only by refusing sizes that leave a remainder.
- Same: ceil(in / stride); the configured padding is ignored. An odd zero goes to the end.
- Causal (1-D): ceil(in / stride); all (k - 1) · dilation zeros go before; the configured padding is ignored.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from tests.unit.runtimes.dl4j.reference_parameters import Array, Configuration


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return the zeros before and after (ConvolutionUtils.getSameModeTopLeftPadding)."""
    total = (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size
    before = int(total / 2)  # Java truncates toward 0: a total of -1 is a padding of 0
    assert before >= 0, "DL4J refuses this"
    return before, total - before


def paddings(conf: Configuration, shape: Sequence[int]) -> list[tuple[int, int]]:
    """Return the zeros before and after, per spatial axis. shape: the spatial sizes."""
    mode = conf.get("convolutionMode") or "Truncate"
    found = []
    for axis, size in enumerate(shape):
        kernel, stride, dilation = (conf.get(key, [1] * 3)[axis] for key in ("kernelSize", "stride", "dilation"))
        if mode == "Same":
            found.append(same_padding(size, kernel, stride, dilation))
        elif mode == "Causal":
            found.append(((kernel - 1) * dilation, 0))
        else:
            found.append((conf["padding"][axis],) * 2)
    return found


def positions(x: Array, conf: Configuration, filling: float) -> Iterator[tuple[tuple[int, ...], Array]]:
    """For x: [N, C, spatial…], yield each index in the kernel, and the values under it as [N, C, out…]."""
    rank = x.ndim - 2
    kernel, stride, dilation = (list(conf.get(key, [1] * 3))[:rank] for key in ("kernelSize", "stride", "dilation"))
    around = paddings(conf, x.shape[2:])
    out = [
        -(-size // step)
        if conf.get("convolutionMode") in ("Same", "Causal")
        else (size + sum(pad) - (k - 1) * spread - 1) // step + 1
        for size, pad, k, step, spread in zip(x.shape[2:], around, kernel, stride, dilation, strict=True)
    ]
    padded = np.pad(
        x, [(0, 0), (0, 0), *((before, max(after, 0)) for before, after in around)], constant_values=filling
    )
    for place in itertools.product(*(range(k) for k in kernel)):
        cut = tuple(
            slice(at * spread, at * spread + (n - 1) * step + 1, step)
            for at, spread, n, step in zip(place, dilation, out, stride, strict=True)
        )
        yield place, padded[(slice(None), slice(None), *cut)]


def channels_first(x: Array, layout: str) -> Array:
    return np.moveaxis(x, -1, 1) if layout in ("NHWC", "NDHWC", "NWC") else x


def back(x: Array, layout: str) -> Array:
    return np.moveaxis(x, 1, -1) if layout in ("NHWC", "NDHWC", "NWC") else x
