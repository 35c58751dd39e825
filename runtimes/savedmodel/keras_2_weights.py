"""Sets the weights of a model of tf_keras from an .h5 file of Keras 1 or 2."""

from typing import Any

import h5py
import tf_keras
from tf_keras.src.saving.legacy.hdf5_format import load_weights_from_hdf5_group

from runtimes.contract import LoadError

_FLIPPED = ("Conv1D", "Conv2D", "Conv2DTranspose", "Conv3D")
_UNKNOWN = ("ConvLSTM2D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D")


def read_weights(path: str, model: Any, backend: str) -> None:
    """Raises LoadError, and whatever Keras raises for weights that do not fit.

    backend: with which the model was trained; "" for the one that the file names.
    """
    with h5py.File(path, "r") as file:
        found = file.attrs.get("backend", b"")
        load_weights_from_hdf5_group(file["model_weights"], model)
    if (backend or (found.decode() if isinstance(found, bytes) else str(found))) == "theano":
        _flip(model)


def _flip(model: Any) -> None:
    """Reverse the kernels of convolutions: Theano convolves, TensorFlow correlates. tf_keras does not convert them."""
    for layer in model._flatten_layers():
        kind = type(layer).__name__
        if kind in _UNKNOWN or _pads_otherwise(layer):
            raise LoadError(
                "the model was trained with Theano, which computes its layer '%.60s' (%s) otherwise than TensorFlow: "
                "train it with TensorFlow" % (layer.name, kind)
            )
        if kind in _FLIPPED:
            kernel = layer.kernel.numpy()
            axes = tuple(range(kernel.ndim - 2))  # the others are channels
            tf_keras.backend.set_value(layer.kernel, kernel[tuple(slice(None, None, -1) for _ in axes)])


def _pads_otherwise(layer: Any) -> bool:
    """Whether Theano pads at the other end, or at both: with the padding "same", unless a kernel's middle is at it."""
    if getattr(layer, "padding", "") != "same":
        return False
    sizes, strides = getattr(layer, "kernel_size", None), getattr(layer, "strides", (1,))
    return sizes is None or any(size % 2 == 0 for size in sizes) or any(step > 1 for step in strides)
