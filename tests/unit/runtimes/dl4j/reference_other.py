"""The remaining layers: YOLO's output and the variational autoencoder's encoder.

- Yolo2OutputLayer: centers are sigmoids within their cell (no offset of the cell is added), sizes are exp · prior, both
  in units of the grid. Channels are [box][x, y, w, h, confidence, classes…].
- VariationalAutoencoder returns the mean of q(z|x), through pzxActivationFn; it does not sample at inference. It also
  has the decoder's parameters.
"""

from itertools import pairwise

import numpy as np

from tests.unit.runtimes.dl4j.reference_activations import activate, sigmoid, softmax
from tests.unit.runtimes.dl4j.reference_dense import Parameters, act
from tests.unit.runtimes.dl4j.reference_parameters import Array, Configuration, Parameter, kind


def yolo2(x: Array, conf: Configuration, given: Parameters) -> Array:
    """YoloUtils.activate"""
    last = conf.get("format") == "NHWC"
    x = x.transpose(0, 3, 1, 2) if last else x
    boxes = conf["boundingBoxes"]
    priors = np.array(boxes["data"], float).reshape(boxes["shape"])  # NDArrayTextSerializer: flat, 'c' order
    n, _, h, w = x.shape
    cells = x.reshape(n, len(priors), -1, h, w)
    centres, lengths, sure, classes = np.split(cells, [2, 4, 5], axis=2)
    lengths = np.exp(lengths) * priors[None, :, :, None, None]
    out = np.concatenate([sigmoid(centres), lengths, sigmoid(sure), softmax(classes, axis=2)], axis=2).reshape(x.shape)
    return out.transpose(0, 2, 3, 1) if last else out


def autoencoder_parameters(conf: Configuration) -> list[Parameter]:
    """VariationalAutoencoderParamInitializer"""
    n_in, n_out = conf["nin"], conf["nout"]
    encoder, decoder = [n_in, *conf["encoderLayerSizes"]], [n_out, *conf["decoderLayerSizes"]]
    gaussian = kind(conf["outputDistribution"]) == "GaussianReconstructionDistribution"

    def both(name: str, rows: int, columns: int) -> list[Parameter]:
        return [Parameter(f"{name}W", (rows, columns), "F"), Parameter(f"{name}b", (columns,))]

    found = [each for k, (rows, columns) in enumerate(pairwise(encoder)) for each in both(f"e{k}", rows, columns)]
    found += both("pZXMean", encoder[-1], n_out) + both("pZXLogStd2", encoder[-1], n_out)
    found += [each for k, (rows, columns) in enumerate(pairwise(decoder)) for each in both(f"d{k}", rows, columns)]
    return found + both("pXZ", decoder[-1], n_in * (2 if gaussian else 1))


def variational_autoencoder(x: Array, conf: Configuration, given: Parameters) -> Array:
    for k in range(len(conf["encoderLayerSizes"])):
        x = act(x @ given[f"e{k}W"] + given[f"e{k}b"], conf)
    return activate(x @ given["pZXMeanW"] + given["pZXMeanb"], conf["pzxActivationFn"])
