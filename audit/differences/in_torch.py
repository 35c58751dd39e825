"""Computes PyTorch's answers."""

import torch
from asked import answer_all
from torch.nn import functional as F

t = torch.from_numpy


def nearest(size):
    return lambda x: F.interpolate(t(x), size=size, mode="nearest").numpy()


FUNCTIONS = {
    "nan-maximum": lambda x, y: torch.maximum(t(x), t(y)),
    "nan-relu": lambda x: torch.relu(t(x)),
    "nan-clip": lambda x: torch.clamp(t(x), 0, 6),
    "nan-reduce-max": lambda x: torch.amax(t(x), 1),
    "nan-argmax": lambda x: torch.argmax(t(x), 1),
    "nan-top-k": lambda x: torch.topk(t(x), 2).values,
    "nan-max-pool": lambda x: F.max_pool1d(t(x), 2),
    "denormal-product": lambda x, y: (t(x) * t(y))[:1],
    "sigmoid-tail": lambda x: torch.sigmoid(t(x)),
    "softplus-tail": lambda x: F.softplus(t(x)),
    "integer-division": lambda x, y: t(x) // t(y),
    "integer-remainder": lambda x, y: t(x) % t(y),
    "float-remainder": lambda x, y: t(x) % t(y),
    "right-shift": lambda x, y: t(x) >> t(y),
    "sum-beyond-2-53": lambda x: t(x).sum(),
    "float-sum": lambda x: t(x).sum(),
    "integer-overflow": lambda x, y: t(x) + t(y),
    "mean-of-nothing": lambda x: t(x).mean(1),
    "max-of-nothing": lambda x: torch.amax(t(x), 1),
    "cast-nan-int32": lambda x: t(x).to(torch.int32),
    "cast-uint8": lambda x: t(x).to(torch.uint8),
    "masked-row": lambda x: torch.softmax(t(x), 1),
    "round-half": lambda x: torch.round(t(x)),
    "argmax-tie": lambda x: torch.argmax(t(x), 1),
    "top-k-tie": lambda x: torch.topk(t(x), 2).indices,
    "average-pool-edge": lambda x: F.avg_pool1d(t(x), 3, 2, 1),
    "resize-nearest-up": nearest(6),
    "resize-nearest-down": nearest(2),
    "resize-linear": lambda x: F.interpolate(t(x), size=6, mode="linear"),
    "negative-index": lambda x, y: F.embedding(t(y), t(x)),
    "index-too-large": lambda x, y: F.embedding(t(y), t(x)),
    "power": lambda x, y: torch.pow(t(x), t(y)),
    "gelu-default": lambda x: F.gelu(t(x)),
    "sign-of-nan": lambda x: torch.sign(t(x)),
    "logarithm-below-zero": lambda x: torch.log(t(x)),
    "normalised-constant": lambda x: F.layer_norm(t(x), (3,)),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    answer_all("PyTorch " + torch.__version__.split("+")[0], FUNCTIONS)
