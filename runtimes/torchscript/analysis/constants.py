"""Adds Python values, from a graph or a module's attributes, as constants."""

from typing import Any, List, Optional

import torch

from runtimes.dataflow.graph import Node, Tensor
from runtimes.dataflow.values import MAX_CONTENTS

from .builder import Builder
from .operators import LIST, NONE, OBJECT

_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def put(builder: Builder, name: str, value: Any, kept: str = "") -> None:
    """Add a constant. kept: a description if it is state of the model, so that a write to it changes the state."""
    if value is None:
        builder.constant(Tensor(name, (), list(NONE.contents or ())))
    elif isinstance(value, (bool, int, float, str)):
        builder.constant(Tensor(name, (), [value]))
    elif isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_nested:
        builder.constant(Tensor(name, tuple(value.shape), contents(value)), kept)
    elif isinstance(value, (list, tuple)):
        if all(isinstance(element, (bool, int, float)) for element in value):
            builder.constant(Tensor(name, (len(value),), list(value)), kept)
        else:
            names = ["%s.%d" % (name, index) for index in range(len(value))]
            for each, element in zip(names, value):
                put(builder, each, element, kept)
            builder.add(Node(LIST, "", "", names, [name], {}), range(len(names)))
            builder.define(name, kept)
    else:
        builder.nodes.append(Node(OBJECT, "", "", [], [name], {}))
        builder.define(name, kept)


def contents(value: torch.Tensor) -> Optional[List[Any]]:
    """Return the elements if they are a few integers or a single float; only these can be shapes or limits."""
    limit = MAX_CONTENTS if value.dtype in _INTEGERS else 1 if value.dtype in _FLOATS else 0
    if not limit or value.numel() > limit or value.device.type == "meta":
        return None
    return list(value.detach().cpu().reshape(-1).tolist())
