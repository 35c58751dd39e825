"""The tables [preprocess] and [postprocess] of model.toml, and checks of them against the model's signature."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gateway.domain import image_processing
from gateway.domain.tensor_checks import can_fit, describe_shape
from runtimes.contract import DATATYPES, Signature, TensorSpec, kind_of, numpy_dtype

_CHANNELS = {"RGB": 3, "BGR": 3, "GRAY": 1}
# Pixels. An RGB image with both sides at this limit takes 768 MiB as UINT8.
_MAX_SIDE = 16384


def _number(value: Any) -> Any:
    """Accept fractions such as "1/255", because TOML has no division."""
    if not isinstance(value, str):
        return value
    try:
        return float(Fraction(value))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError('it must be a number, or a fraction in quotes such as "1/255"') from None


def _list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


_Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
_Numbers = Annotated[tuple[_Number, ...], BeforeValidator(_list)]
_Side = Annotated[int, Field(ge=1, le=_MAX_SIDE)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PreprocessToml(_Strict):
    """How an image becomes a row of an input. docs/images.md defines each key and the order of the steps."""

    input: str = ""
    size: tuple[_Side, _Side]
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    shorter_side: int = Field(0, ge=0, le=_MAX_SIDE)
    fill: int = Field(0, ge=0, le=255)
    interpolation: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] = "bilinear"
    # "colour" is the deprecated spelling, which the next release removes.
    color: Literal["RGB", "BGR", "GRAY"] = Field("RGB", validation_alias=AliasChoices("color", "colour"))
    invert: bool = False
    scale: _Number = 1.0
    mean: _Numbers = (0.0,)
    std: _Numbers = (1.0,)
    layout: Literal["NCHW", "NHWC", "NHW", "flat"] = "NCHW"

    @model_validator(mode="after")
    def _agree(self) -> Self:
        channels = _CHANNELS[self.color]
        if len(self.mean) not in (1, channels) or len(self.std) not in (1, channels):
            raise ValueError(f"mean and std must have one value, or one for each channel of {self.color}: {channels}")
        if 0 in self.std:
            raise ValueError("std must not be 0")
        if self.layout == "NHW" and channels > 1:
            raise ValueError('layout "NHW" has no channels; it needs color = "GRAY"')
        if self.shorter_side and self.resize != "crop":
            raise ValueError('shorter_side needs resize = "crop"')
        if 0 < self.shorter_side < max(self.size):
            raise ValueError(f"shorter_side must be at least {max(self.size)}, since the image is cropped to size")
        return self

    def resolve(self) -> image_processing.Preprocess:
        """Return it with a mean and a std for each channel."""
        channels = _CHANNELS[self.color]
        values = {**dict(self), "mean": _broadcast(self.mean, channels), "std": _broadcast(self.std, channels)}
        return image_processing.Preprocess(**values)


def _broadcast(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values if len(values) == channels else values * channels


class PostprocessToml(_Strict):
    """How a row of an output becomes labels with scores."""

    output: str = ""
    softmax: bool = False
    top_k: int = Field(5, ge=1, le=1000)

    def resolve(self) -> image_processing.Postprocess:
        return image_processing.Postprocess(self.output, self.softmax, self.top_k)


def incompatibility(
    preprocess: PreprocessToml | None,
    postprocess: PostprocessToml | None,
    signature: Signature,
    labels: Mapping[str, Sequence[str]],
    batch_dim: int,
) -> str:
    """Return, in one sentence, why requests with images can never succeed; "" if they can, or if that is unknown.

    labels: output → labels of its last dimension.
    """
    try:
        if preprocess is not None:
            _check_input(preprocess.resolve(), signature, batch_dim)
        if postprocess is not None:
            _check_output(postprocess.resolve(), signature, labels)
    except _Incompatible as problem:
        return str(problem)
    return ""


class _Incompatible(Exception):
    pass


def _check_input(preprocess: image_processing.Preprocess, signature: Signature, batch_dim: int) -> None:
    spec = signature.only_input()
    if spec is None:
        names = ", ".join(f"'{spec.name}'" for spec in signature.inputs)
        raise _Incompatible(
            f"model.toml has [preprocess], but images alone cannot provide the inputs {names}; remove it"
        )
    if preprocess.input not in ("", spec.name):
        raise _Incompatible(f"[preprocess] is for input '{preprocess.input}', but images can only be '{spec.name}'")
    if batch_dim:
        raise _Incompatible(f"[preprocess] puts images along the first dimension, but batch_dim is {batch_dim}")
    shape = (-1, *preprocess.shape(1)[1:])
    if spec.shape is not None and not can_fit(shape, spec.shape):
        raise _Incompatible(
            f"[preprocess] makes images of shape {list(shape)}, but input '{spec.name}' needs "
            f"{describe_shape(spec.shape)}; change size, color or layout"
        )
    _check_values(preprocess, spec)


def _check_values(preprocess: image_processing.Preprocess, spec: TensorSpec) -> None:
    if kind_of(spec.datatype) in ("bool", "bytes"):
        raise _Incompatible(f"[preprocess] makes numbers, but input '{spec.name}' has datatype {spec.datatype}")
    import numpy as np  # only for models with [preprocess]

    datatype, values = spec.datatype or "FP32", image_processing.values(preprocess)
    if DATATYPES[datatype].typestr is None:
        raise _Incompatible(f"[preprocess] makes no {datatype}, which input '{spec.name}' has; send it as numbers")
    dtype = numpy_dtype(datatype)
    limits = np.finfo(dtype) if kind_of(datatype) == "float" else np.iinfo(dtype)
    low, high = float(np.rint(values.min())), float(np.rint(values.max()))
    if low < float(limits.min) or high > float(limits.max):
        raise _Incompatible(
            f"[preprocess] makes values from {low:g} to {high:g}, out of the range of {spec.datatype} "
            f"that input '{spec.name}' has; change scale, mean or std"
        )


def _check_output(
    postprocess: image_processing.Postprocess, signature: Signature, labels: Mapping[str, Sequence[str]]
) -> None:
    specs = {spec.name: spec for spec in signature.outputs}
    if not specs:
        return
    names = ", ".join(f"'{name}'" for name in specs)
    if not postprocess.output and len(specs) > 1:
        raise _Incompatible(f"[postprocess] must name one output; there are {names}")
    name = postprocess.output or next(iter(specs))
    if name not in specs:
        raise _Incompatible(f"[postprocess] is for output '{name}', but there is none of that name; there are {names}")
    spec = specs[name]
    if kind_of(spec.datatype) in ("bool", "bytes"):
        raise _Incompatible(f"[postprocess] needs scores, but output '{name}' has datatype {spec.datatype}")
    shape = spec.shape
    if shape is None:
        return
    if len(shape) < 2 or any(size not in (-1, 1) for size in shape[2:]):
        raise _Incompatible(
            f"[postprocess] needs rows of scores, but output '{name}' has shape {describe_shape(shape)}"
        )
    count = len(labels.get(name, ()))
    if count and shape[1] not in (-1, count):
        raise _Incompatible(f"output '{name}' has {shape[1]} scores, but its labels file has {count} lines")
