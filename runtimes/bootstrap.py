"""Makes the package `runtimes` importable in the interpreter of a framework, where it is not installed.

It is run by its path (runpy), because it cannot be imported before the package is registered. The package is registered
by its path, so the gateway's site-packages, which may contain it, are never added to sys.path.
"""

import importlib.util
import os
import sys


def register():  # type: () -> None
    root = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        "runtimes", os.path.join(root, "__init__.py"), submodule_search_locations=[root]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["runtimes"] = module
    spec.loader.exec_module(module)


register()
