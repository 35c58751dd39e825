"""Imports the packages whose operators models may use (`extras` in model.toml), which register them with PyTorch."""

import importlib.util
import re
from typing import Dict

import torch

from runtimes.contract import LoadError

_PACKAGES = ("torchvision", "torchaudio")
_OPERATOR = re.compile(r"\b(%s)(?:::|\.)\w+" % "|".join(_PACKAGES))


def import_installed() -> Dict[str, str]:
    """Import those that this environment has. Returns package → why it cannot be imported.

    A package that cannot is no error yet: an interpreter of the operator's may have it for other purposes.
    """
    broken = {}
    for name in filter(importlib.util.find_spec, _PACKAGES):
        try:
            importlib.import_module(name)
        except Exception as error:
            broken[name] = str(error).splitlines()[0] if str(error) else type(error).__name__
    return broken


def explain(error: LoadError, broken: Dict[str, str]) -> LoadError:
    """Return the error, with what to do if the model uses an operator of a package that is missing or broken."""
    found = _OPERATOR.search(str(error))
    if found is None:
        return error
    operator, package = found.group(0).replace(".", "::"), found.group(1)
    if package in broken:
        build = "CUDA %s" % torch.version.cuda if torch.version.cuda else "the CPU"
        return LoadError(
            "it uses the operator %s, but the installed %s does not fit PyTorch %s for %s: install one of the same "
            "build, by pip's own configuration on the server" % (operator, package, torch.__version__, build)
        )
    if importlib.util.find_spec(package) is None:
        return LoadError('it uses the operator %s: write extras = ["%s"] in its model.toml' % (operator, package))
    return error
