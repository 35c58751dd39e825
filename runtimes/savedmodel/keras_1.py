"""Rewrites configurations of Keras 1, and of early versions of Keras 2, so that tf_keras reads them.

Initializers, regularizers and constraints are left out, because they do nothing to a trained model. The weights need no
change here: tf_keras still converts those of Keras 1.
"""

from functools import partial
from typing import Any, Callable, Dict, Iterator

from runtimes.contract import LoadError

_CLASSES = {
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "SeparableConvolution2D": "SeparableConv2D",
    "Deconvolution2D": "Conv2DTranspose",
}
_MERGES = {
    "ave": "Average", "concat": "Concatenate", "dot": "Dot", "max": "Maximum", "mul": "Multiply", "sum": "Add",
}  # fmt: skip
# Layers that are the same in Keras 2, but for the names of their settings.
_KNOWN = (
    "Activation", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "BatchNormalization", "Bidirectional",
    "Cropping1D", "Cropping2D", "Cropping3D", "Dense", "Dropout", "ELU", "Embedding", "Flatten", "GRU",
    "GaussianDropout", "GaussianNoise", "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D", "InputLayer", "LSTM", "LeakyReLU", "Masking",
    "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "Model", "PReLU", "Permute", "RepeatVector", "Reshape",
    "Sequential", "SimpleRNN", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "ThresholdedReLU",
    "TimeDistributed", "UpSampling1D", "UpSampling2D", "UpSampling3D", "ZeroPadding1D", "ZeroPadding2D",
    "ZeroPadding3D",
)  # fmt: skip
_NAMES = {
    "atrous_rate": "dilation_rate",
    "bias": "use_bias",
    "border_mode": "padding",
    "dim_ordering": "data_format",
    "filter_length": "kernel_size",
    "inner_activation": "recurrent_activation",
    "input_dtype": "dtype",
    "length": "size",
    "nb_filter": "filters",
    "output_dim": "units",
    "p": "rate",
    "pool_length": "pool_size",
    "sigma": "stddev",
    "stride": "strides",
    "subsample": "strides",
    "subsample_length": "strides",
}
_UNUSED = (
    "W_constraint", "W_regularizer", "U_regularizer", "activity_regularizer", "b_constraint", "b_regularizer",
    "beta_init", "beta_regularizer", "consume_less", "dropout_U", "dropout_W", "forget_bias_init", "gamma_init",
    "gamma_regularizer", "init", "inner_init", "input_dim", "input_length", "depthwise_constraint", "depthwise_init",
    "depthwise_regularizer", "pointwise_constraint", "pointwise_init", "pointwise_regularizer",
)  # fmt: skip
_KERNEL_SIZES = (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3"))
_CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "SeparableConv2D")
# Layers that depend on the order of dimensions, but do not always record it.
_ORDERED = ("Cropping2D", "Cropping3D", "UpSampling2D", "UpSampling3D", "ZeroPadding2D", "ZeroPadding3D")
_FORMATS = {"th": "channels_first", "tf": "channels_last"}


def rewritten(config: Dict[str, Any], major: int) -> Any:
    """Return a configuration as tf_keras reads it. major: the version of Keras that wrote it. Raises LoadError."""
    if major >= 2:
        return _rewritten(config, _of_keras_2)
    orders = {config["dim_ordering"] for config in _with_order(config)}
    # Layers that do not record the order of dimensions had that of a file in the user's home.
    return _rewritten(config, partial(_of_keras_1, order=orders.pop() if len(orders) == 1 else ""))


def _rewritten(value: Any, rewrite: Callable[[Dict[str, Any]], Dict[str, Any]]) -> Any:
    if isinstance(value, list):
        return [_rewritten(each, rewrite) for each in value]
    if not isinstance(value, dict):
        return value
    made = {key: _rewritten(each, rewrite) for key, each in value.items()}
    is_layer = isinstance(made.get("config"), (dict, list)) and isinstance(made.get("class_name"), str)
    return rewrite(made) if is_layer else made


def _with_order(value: Any) -> Iterator[Dict[str, Any]]:
    if isinstance(value, dict):
        if value.get("dim_ordering") in _FORMATS:
            yield value
        value = list(value.values())
    for each in value if isinstance(value, list) else []:
        yield from _with_order(each)


def has_convolutions(value: Any) -> bool:
    """Whether a rewritten configuration has layers that Theano computes otherwise than TensorFlow."""
    if isinstance(value, dict):
        return value.get("class_name") in _CONVOLUTIONS or any(map(has_convolutions, value.values()))
    return isinstance(value, list) and any(map(has_convolutions, value))


def _of_keras_2(layer: Dict[str, Any]) -> Dict[str, Any]:
    kind, config = layer["class_name"], layer["config"]
    if kind == "GRU":
        config.setdefault("reset_after", False)  # versions that do not write it had nothing else
    elif kind in ("CuDNNGRU", "CuDNNLSTM"):  # the same layers, for GPUs only
        config["recurrent_activation"] = "sigmoid"
        if kind == "CuDNNGRU":
            config["reset_after"] = True
        layer["class_name"] = kind[len("CuDNN") :]
    return layer


def _of_keras_1(layer: Dict[str, Any], order: str) -> Dict[str, Any]:
    """order: that of all layers that record one."""
    kind, config = layer["class_name"], layer["config"]
    if kind == "Merge":
        return {**layer, **_merge(config)}
    name = _CLASSES.get(kind, kind)
    if name not in (*_KNOWN, *_CLASSES.values()):
        raise LoadError("the layer %.40s of Keras 1 is not supported: save the model with Keras 2" % kind)
    if isinstance(config, list) or "layers" in config:
        return layer
    kept = {key: value for key, value in config.items() if key not in _UNUSED}
    if kind == "Embedding":
        kept.pop("dropout", None)
        kept["dtype"] = "float32"  # of the result; that of its input was meant
        kept.pop("input_dtype", None)
        return {**layer, "config": {**kept, "input_dim": config["input_dim"]}}
    for keys in _KERNEL_SIZES:
        if keys[0] in kept:
            kept["kernel_size"] = [kept.pop(key) for key in keys]
    if kept.pop("mode", 0) != 0:
        raise LoadError("a layer BatchNormalization of Keras 1 has a mode that Keras 2 lacks: only 0 is supported")
    if name == "Conv2DTranspose":
        kept.pop("output_shape", None)
    made = {_NAMES.get(key, key): value for key, value in kept.items()}
    if "data_format" in made:
        made["data_format"] = _FORMATS.get(made["data_format"], made["data_format"])
    elif kind in _ORDERED and order:
        made["data_format"] = _FORMATS[order]
    if kind == "GRU":
        made["reset_after"] = False
    return {**layer, "class_name": name, "config": made}


def _merge(config: Dict[str, Any]) -> Dict[str, Any]:
    mode = config.get("mode")
    if mode not in _MERGES or config.get("mode_type", "raw") != "raw" or config.get("layers"):
        raise LoadError("a layer Merge of Keras 1 has the mode '%.40s', which Keras 2 lacks" % mode)
    made: Dict[str, Any] = {"name": config.get("name")}
    if mode == "concat":
        made["axis"] = config.get("concat_axis", -1)
    if mode == "dot":
        made["axes"] = config.get("dot_axes", -1)
    return {"class_name": _MERGES[mode], "config": made}
