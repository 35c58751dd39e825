"""For scripts: imports PyPI's torchvision beside PyTorch for CPUs, for which its compiled operators are not built."""

import importlib
import importlib.util
import re
from pathlib import Path

import torch


def import_torchvision() -> None:
    """Declare its operators: without them it cannot be imported beside another build of PyTorch. None is called."""
    spec = importlib.util.find_spec("torchvision")
    (folder,) = spec.submodule_search_locations
    text = (Path(folder) / "_meta_registrations.py").read_text()
    library = torch.library.Library("torchvision", "DEF")
    for operator in set(re.findall(r'register_(?:fake|meta)\("(?:torchvision::)?(\w+)"\)', text)):
        library.define(operator + "(Tensor x) -> Tensor")
    importlib.import_module("torchvision")
    globals()["library"] = library  # which the operators live as long as
