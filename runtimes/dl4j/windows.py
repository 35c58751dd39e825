"""What convolution and pooling share: kernels that move over an input. ConvolutionUtils of DL4J."""

import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .context import grown_by, shown
from .settings import Settings

# A kernel without parameters (pooling) costs by its size what nobody would wait for.
_MAX_SIZE, _MAX_IN_KERNEL = 1 << 16, 1 << 20
_MODES = ("Strict", "Truncate", "Same", "Causal")


class Windows(NamedTuple):
    """One number for each of the dimensions that the kernel moves along.

    mode  "Strict" and "Truncate" pad by `padding`; "Same" so that the output is the input's size over the stride;
          "Causal", in one dimension, before the input alone
    """

    kernel: Tuple[int, ...]
    stride: Tuple[int, ...]
    padding: Tuple[int, ...]
    dilation: Tuple[int, ...]
    mode: str

    @property
    def extents(self) -> Tuple[int, ...]:
        """The kernels' sizes with what dilation leaves out."""
        return tuple((kernel - 1) * dilation + 1 for kernel, dilation in zip(self.kernel, self.dilation))

    def attributes(self, sizes: Sequence[int], dilated: bool = True) -> Dict[str, Any]:
        """ONNX's, for an input of these sizes; -1 for those that a request tells."""
        found: Dict[str, Any] = {"kernel_shape": self.kernel, "strides": self.stride}
        if dilated:
            found["dilations"] = self.dilation
        if self.mode == "Same" and any(size < 0 and stride > 1 for size, stride in zip(sizes, self.stride)):
            return {**found, "auto_pad": "SAME_UPPER"}
        before, after = zip(*self.pads(sizes))
        return {**found, "pads": [*before, *after]}

    def pads(self, sizes: Sequence[int]) -> List[Tuple[int, int]]:
        """Before and after, in each dimension. In mode "Same" what is odd goes behind (getSameModeTopLeftPadding)."""
        if self.mode == "Causal":
            return [(extent - 1, 0) for extent in self.extents]
        if self.mode != "Same":
            return [(padding, padding) for padding in self.padding]
        found = []
        for size, stride, extent in zip(sizes, self.stride, self.extents):
            # With a stride of 1 the size does not matter.
            both = max((-(-size // stride) - 1) * stride + extent - size, 0) if stride > 1 else extent - 1
            found.append((both // 2, both - both // 2))
        return found

    def grown(self, sizes: Sequence[int]) -> int:
        """How many times larger padding makes what only a request tells."""
        more = [sum(pads) - extent for pads, extent in zip(self.pads([-1] * len(sizes)), self.extents)]
        return 1 if self.mode == "Same" else math.prod(grown_by(each) for size, each in zip(sizes, more) if size < 0)

    def outputs(self, sizes: Sequence[int], settings: Settings) -> Tuple[int, ...]:
        """Their sizes; -1 where a request tells."""
        found = []
        unknown = any(size < 0 and stride > 1 for size, stride in zip(sizes, self.stride))
        if self.mode == "Same" and unknown and max(self.dilation) > 1:
            # ONNX has no name for that padding, and ONNX Runtime none with dilation.
            settings.refuse("dilated in mode Same it needs sizes that only a request tells: give them in [[inputs]]")
        for place, size in enumerate(sizes):
            stride = self.stride[place]
            if size < 0:
                found.append(-1)
            elif self.mode in ("Same", "Causal"):
                found.append(-(-size // stride))
            else:
                given = (size + 2 * self.padding[place] - self.extents[place]) // stride + 1
                if given < 1:
                    settings.refuse("its kernel of %d is larger than its input of %d" % (self.extents[place], size))
                found.append(given)
        return tuple(found)

    def inputs(self, sizes: Sequence[int]) -> Tuple[int, ...]:
        """Of which sizes an input gives these; -1 where several would, or a request tells."""
        found = []
        for size, stride, padding, extent in zip(sizes, self.stride, self.padding, self.extents):
            if size < 0 or stride > 1:
                found.append(-1)
            else:
                found.append(size if self.mode in ("Same", "Causal") else size + extent - 1 - 2 * padding)
        return tuple(found)


def windows(settings: Settings, dimensions: int, default: Optional[str] = "Truncate") -> Windows:
    """Files before 0.7 tell no mode, and nobody told a dilation before 0.9. Refuses what does not fit, and without a
    default what tells no mode."""
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
    if math.prod(found.kernel) > _MAX_IN_KERNEL:
        settings.refuse("its kernel of %s is too large" % shown(found.kernel))
    return found


def _numbers(settings: Settings, field: str, dimensions: int, default: Any, least: int) -> Tuple[int, ...]:
    """In one dimension DL4J has often written two numbers, the second of which says nothing."""
    if dimensions == 1:
        given = settings.get(field)
        if isinstance(given, list) and len(given) == 2:
            first, _ = settings.integers(field, 2, least=0)
            if first < least:
                settings.refuse("its field '%s' begins with %d" % (field, first))
            return (first,)
    if default is None:
        return settings.integers(field, dimensions, least=least)
    return settings.integers(field, dimensions, default, least=least)
