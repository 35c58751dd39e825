"""Import the package `runtimes` by its file, and a runtime as a worker does.

The interpreter runs isolated (-I), so neither is on its path. Importing this module makes `runtimes` importable.
"""

import importlib
import importlib.util
import os
import sys
import types

_PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
ROOT = os.path.join(_PROJECT, "runtimes")


def import_file(name, path, search_locations=None):
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=search_locations)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def import_runtime(folder):
    """Import the folder's runtime.py as part of a package, because it imports its neighbors relatively."""
    package = types.ModuleType("modelport_runtime")
    package.__path__ = [folder]
    sys.modules[package.__name__] = package
    return importlib.import_module("modelport_runtime.runtime")


import_file("runtimes", os.path.join(ROOT, "__init__.py"), [ROOT])
