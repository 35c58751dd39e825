"""The sliding windows of convolution and pooling (DL4J's ConvolutionUtils)."""

import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .context import format_sizes, padding_growth
from .settings import Settings

# Pooling has no parameters, so a small file can request a kernel of any size, and with it any amount of computation.
_MAX_SIZE, _MAX_KERNEL_ELEMENTS = 1 << 16, 1 << 20
_MODES = ("Strict", "Truncate", "Same", "Causal")


class Windows(NamedTuple):
    """One number per dimension that the kernel moves along.

    mode  "Strict" and "Truncate" pad by `padding`; "Same" pads so that the output has the input's size divided by
          the stride, rounded up; "Causal", in one dimension only, pads only before the input
    """

    kernel: Tuple[int, ...]
    stride: Tuple[int, ...]
    padding: Tuple[int, ...]
    dilation: Tuple[int, ...]
    mode: str

    @property
    def extents(self) -> Tuple[int, ...]:
        """The kernel's sizes including the gaps of dilation."""
        return tuple((kernel - 1) * dilation + 1 for kernel, dilation in zip(self.kernel, self.dilation))

    def attributes(self, sizes: Sequence[int], dilated: bool = True) -> Dict[str, Any]:
        """Return ONNX's attributes for an input of these spatial sizes; -1 is a dynamic size."""
        found: Dict[str, Any] = {"kernel_shape": self.kernel, "strides": self.stride}
        if dilated:
            found["dilations"] = self.dilation
        if self.mode == "Same" and any(size < 0 and stride > 1 for size, stride in zip(sizes, self.stride)):
            return {**found, "auto_pad": "SAME_UPPER"}
        before, after = zip(*self.pads(sizes))
        return {**found, "pads": [*before, *after]}

    def pads(self, sizes: Sequence[int]) -> List[Tuple[int, int]]:
        """Return the padding before and after each dimension.

        In mode "Same", an odd padding has the larger half at the end (getSameModeTopLeftPadding).
        """
        if self.mode == "Causal":
            return [(extent - 1, 0) for extent in self.extents]
        if self.mode != "Same":
            return [(padding, padding) for padding in self.padding]
        found = []
        for size, stride, extent in zip(sizes, self.stride, self.extents):
            # With a stride of 1, the padding does not depend on the size, which may be dynamic.
            total = max((-(-size // stride) - 1) * stride + extent - size, 0) if stride > 1 else extent - 1
            found.append((total // 2, total - total // 2))
        return found

    def growth(self, sizes: Sequence[int]) -> int:
        """Return the factor by which padding enlarges the dynamic sizes."""
        extra = [sum(pads) - extent for pads, extent in zip(self.pads([-1] * len(sizes)), self.extents)]
        return 1 if self.mode == "Same" else math.prod(padding_growth(n) for size, n in zip(sizes, extra) if size < 0)

    def outputs(self, sizes: Sequence[int], settings: Settings) -> Tuple[int, ...]:
        """Return the spatial sizes of the output; -1 is dynamic. Raises LoadError if the kernel exceeds the input."""
        found = []
        unknown = any(size < 0 and stride > 1 for size, stride in zip(sizes, self.stride))
        if self.mode == "Same" and unknown and max(self.dilation) > 1:
            # The padding depends on the size, and ONNX Runtime does not support auto_pad together with dilation.
            settings.refuse("dilated in mode Same, it needs fixed sizes, and some are dynamic: set them in [[inputs]]")
        for axis, size in enumerate(sizes):
            stride = self.stride[axis]
            if size < 0:
                found.append(-1)
            elif self.mode in ("Same", "Causal"):
                found.append(-(-size // stride))
            else:
                count = (size + 2 * self.padding[axis] - self.extents[axis]) // stride + 1
                if count < 1:
                    settings.refuse("its kernel of %d is larger than its input of %d" % (self.extents[axis], size))
                found.append(count)
        return tuple(found)

    def inputs(self, sizes: Sequence[int]) -> Tuple[int, ...]:
        """Return the input sizes that produce these output sizes; -1 if several do, or if the size is dynamic."""
        found = []
        for size, stride, padding, extent in zip(sizes, self.stride, self.padding, self.extents):
            if size < 0 or stride > 1:
                found.append(-1)
            else:
                found.append(size if self.mode in ("Same", "Causal") else size + extent - 1 - 2 * padding)
        return tuple(found)


def windows(settings: Settings, dimensions: int, default: Optional[str] = "Truncate") -> Windows:
    """Read a layer's window. Raises LoadError if it is invalid or too large.

    default  the mode if the file has none; None: the mode is required. Files from before 0.7 have no mode, and those
             from before 0.9 no dilation
    """
    mode = settings.choice("convolutionMode", _MODES, default)
    if mode == "Causal" and dimensions != 1:
        settings.refuse("causal convolution in %d dimensions is not covered" % dimensions)
    found = Windows(
        _numbers(settings, "kernelSize", dimensions, None, 1),
        _numbers(settings, "stride", dimensions, 1, 1),
        _numbers(settings, "padding", dimensions, 0, 0),
        _numbers(settings, "dilation", dimensions, 1, 1),
        mode,
    )
    if max(*found.kernel, *found.stride, *found.padding, *found.dilation) > _MAX_SIZE:
        settings.refuse("its kernel, stride, padding or dilation is larger than %d" % _MAX_SIZE)
    if math.prod(found.kernel) > _MAX_KERNEL_ELEMENTS:
        settings.refuse("its kernel of %s is too large" % format_sizes(found.kernel))
    return found


def _numbers(settings: Settings, field: str, dimensions: int, default: Any, minimum: int) -> Tuple[int, ...]:
    """Read one number per dimension. In one dimension, DL4J has often written a second number without a meaning."""
    if dimensions == 1:
        given = settings.get(field)
        if isinstance(given, list) and len(given) == 2:
            first, _ = settings.integers(field, 2, minimum=0)
            if first < minimum:
                settings.refuse("its field '%s' begins with %d" % (field, first))
            return (first,)
    if default is None:
        return settings.integers(field, dimensions, minimum=minimum)
    return settings.integers(field, dimensions, default, minimum=minimum)
