"""Makes the package `runtimes` importable in an interpreter that knows nothing of it.

Run by its path (runpy), since it cannot be imported before it has done its work. The package is
registered by its file: the gateway's site-packages, in which it may lie, are never put on sys.path.
"""

import importlib.util
import os
import sys


def register():  # type: () -> None
    root = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        "runtimes", os.path.join(root, "__init__.py"), submodule_search_locations=[root]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["runtimes"] = module
    spec.loader.exec_module(module)


register()
