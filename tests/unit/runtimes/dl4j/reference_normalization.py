"""Batch and local response normalization (org.deeplearning4j.nn.layers.normalization), the built-in code: since M1
helpers (cuDNN, oneDNN) are off by default.

- Batch normalization: (x - mean) / sqrt(var + eps). With useLogStd (files of beta4 and newer) the row holds
  log10(std): var = (10^value)²; eps is added to that as well.
- lockGammaBeta: there are no gamma and beta parameters. The configured numbers are used only if gamma != 1 AND
  beta != 0 ("&&" where "||" was meant): gamma 2 with beta 0 does nothing.
- There is no activation: activationFn is in the configuration, but never applied.
- Sequences (rank 3, M1 on): [N, C, T] is reshaped to [1, N, C, T] and normalized as an image. Its "channels" are then
  the BATCH: refused unless N = nOut. Only NWC with cnn2DFormat = NHWC is what one would expect. Before M1 rank 3 was
  refused altogether.
- LRN: x / (k + alpha · sum of squares over n // 2 channels to each side)^beta, n being a number of channels in all.
  alpha is not divided by n, unlike in ONNX, Caffe and PyTorch.
"""

import numpy as np

from tests.unit.runtimes.dl4j.reference_dense import Parameters
from tests.unit.runtimes.dl4j.reference_parameters import Array, Configuration


def batch_normalization(x: Array, conf: Configuration, given: Parameters) -> Array:
    if x.ndim == 3:
        return batch_normalization(x[None], conf, given)[0]
    if x.ndim not in (2, 4):
        raise ValueError(f"DL4J refuses batch normalization of rank {x.ndim}")
    axis = 3 if x.ndim == 4 and conf.get("cnn2DFormat") == "NHWC" else 1
    if x.shape[axis] != conf["nout"]:
        raise ValueError(f"DL4J refuses {x.shape}: axis {axis} is not {conf['nout']}")
    shape = [-1 if k == axis else 1 for k in range(x.ndim)]
    variance = given["var"] if "var" in given else (10 ** given["log10stdev"]) ** 2
    out = (x - given["mean"].reshape(shape)) / np.sqrt(variance + conf["eps"]).reshape(shape)
    if "gamma" in given:
        return out * given["gamma"].reshape(shape) + given["beta"].reshape(shape)
    gamma, beta = conf.get("gamma", 1.0), conf.get("beta", 0.0)
    return out * gamma + beta if gamma != 1 and beta != 0 else out


def local_response(x: Array, conf: Configuration, given: Parameters) -> Array:
    """LocalResponseNormalization.activateHelper"""
    axis = 3 if conf.get("dataFormat") == "NHWC" else 1
    squares = np.moveaxis(x, axis, 0) ** 2
    half = int(conf["n"]) // 2
    total = np.stack([squares[max(0, c - half) : c + half + 1].sum(axis=0) for c in range(len(squares))])
    return x * np.moveaxis((conf["k"] + conf["alpha"] * total) ** -conf["beta"], 0, axis)
