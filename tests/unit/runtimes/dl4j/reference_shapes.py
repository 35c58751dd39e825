"""Layers that rearrange their input: padding, cropping, upsampling, space to depth and to batch.

- ZeroPadding and Cropping lists are [before, after] per axis. Only the 2-D ones support channels last; 1-D and 3-D ones
  always apply from axis 2 on, whatever the data format.
- Upsampling1D and 2D repeat each element ("nearest"). Upsampling1D is always [N, C, T].
- SpaceToDepth in NCHW: output channel (i · block + j) · C + c, as TensorFlow's, not ONNX' or PyTorch's order.
"""

from collections.abc import Sequence

import numpy as np

from tests.unit.runtimes.dl4j.reference_dense import Parameters
from tests.unit.runtimes.dl4j.reference_parameters import Array, Configuration


def spatial(x: Array, layout: str | None) -> int:
    """Return the first spatial axis."""
    return 1 if layout in ("NHWC", "NDHWC", "NWC") else 2


def two(sizes: Sequence[int], rank: int) -> list[int]:
    """Return sizes per spatial axis as [before, after, before, after…]; DL4J's builders expand the short forms."""
    return list(sizes) if len(sizes) == 2 * rank else [size for size in sizes for _ in range(2)]


def zero_padding(x: Array, conf: Configuration, given: Parameters) -> Array:
    first, rank = spatial(x, conf.get("dataFormat") if x.ndim == 4 else None), x.ndim - 2
    around = two(conf["padding"], rank)
    widths = [(0, 0)] * x.ndim
    for axis in range(rank):
        widths[first + axis] = (around[2 * axis], around[2 * axis + 1])
    return np.pad(x, widths)


def cropping(x: Array, conf: Configuration, given: Parameters) -> Array:
    first, rank = spatial(x, conf.get("dataFormat") if x.ndim == 4 else None), x.ndim - 2
    around = two(conf["cropping"], rank)
    cut = [slice(None)] * x.ndim
    for axis in range(rank):
        cut[first + axis] = slice(around[2 * axis], x.shape[first + axis] - around[2 * axis + 1])
    return x[tuple(cut)]


def upsampling(x: Array, conf: Configuration, given: Parameters) -> Array:
    """Upsampling2D has "format", Upsampling3D "dataFormat"."""
    layout = None if x.ndim == 3 else conf.get("format") or conf.get("dataFormat")
    for axis in range(x.ndim - 2):
        x = np.repeat(x, conf["size"][axis], axis=spatial(x, layout) + axis)
    return x


def space_to_depth(x: Array, conf: Configuration, given: Parameters) -> Array:
    """libnd4j s_t_d.cpp"""
    last = conf.get("dataFormat") == "NHWC"
    x, block = (x if last else x.transpose(0, 2, 3, 1)), conf["blockSize"]
    n, h, w, c = x.shape
    parts = x.reshape(n, h // block, block, w // block, block, c).transpose(0, 1, 3, 2, 4, 5)
    out = parts.reshape(n, h // block, w // block, block * block * c)
    return out if last else out.transpose(0, 3, 1, 2)


def space_to_batch(x: Array, conf: Configuration, given: Parameters) -> Array:
    """libnd4j space_to_batch_nd: the batch becomes (i · block_w + j) · N + n"""
    last = conf.get("format") == "NHWC"
    x, (high, wide) = (x if last else x.transpose(0, 2, 3, 1)), conf["blocks"]
    x = np.pad(x, [(0, 0), *(tuple(each) for each in conf["padding"]), (0, 0)])
    n, h, w, c = x.shape
    parts = x.reshape(n, h // high, high, w // wide, wide, c).transpose(2, 4, 0, 1, 3, 5)
    out = parts.reshape(high * wide * n, h // high, w // wide, c)
    return out if last else out.transpose(0, 3, 1, 2)
