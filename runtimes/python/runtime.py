"""Runs model.py: a class of our own form (own_form.py), or Triton's TritonPythonModel (triton_form.py).

If the artifact is an MLmodel, mlflow runs it (mlflow_form.py); if it is an archive's manifest, or SageMaker's
inference.py, the archive's handler is run (handler_form.py, sagemaker_form.py).
"""

import importlib
import os
import sys
import types
from typing import Any

from runtimes.contract import LoadError, LoadOptions, Model

from . import handler_form, mlflow_form, modelport, own_form, pb_utils, sagemaker_form, triton_form

_TRITON = "TritonPythonModel"
_NAME = "model"
_MLMODEL, _MANIFEST, _INFERENCE = "MLmodel", "MANIFEST.json", "inference.py"


def load(options: LoadOptions) -> Model:
    if os.path.basename(options.artifact) == _MLMODEL:
        sys.dont_write_bytecode = True
        return mlflow_form.MlflowModel(options)
    if os.path.basename(options.artifact) == _MANIFEST:
        return handler_form.load(options)
    if os.path.basename(options.artifact) == _INFERENCE:
        return sagemaker_form.load(options)
    module = _import(options.artifact)
    if hasattr(module, _TRITON):
        return triton_form.TritonModel(getattr(module, _TRITON), options)
    return own_form.OwnModel(_model_class(module), options)


def _import(path: str) -> types.ModuleType:
    """Import model.py, which may import modules next to it. Raises LoadError."""
    sys.dont_write_bytecode = True  # the model's folder is read-only, and new files in it would load the model again
    sys.modules["modelport"] = modelport
    sys.modules["triton_python_backend_utils"] = pb_utils
    sys.path.insert(0, os.path.dirname(path))
    try:
        return importlib.import_module(_NAME)
    except ModuleNotFoundError as error:
        if error.name == _NAME:
            raise
        raise LoadError(
            "model.py imports '%s', which its environment does not have: name its package in requirements.txt"
            % error.name
        ) from error
    except SystemExit as error:
        raise LoadError("model.py ends the process when it is imported: remove what calls sys.exit") from error
    except SyntaxError as error:
        raise LoadError("model.py is not Python, line %s: %s" % (error.lineno, error.msg)) from None


def _model_class(module: types.ModuleType) -> Any:
    """Return the class named Model, or the only class with `predict` that model.py defines. Raises LoadError."""
    classes = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and each.__module__ == _NAME and hasattr(each, "predict")
    ]
    named = [each for each in classes if each.__name__ == "Model"] or classes
    if len(named) == 1:
        return named[0]
    if named:
        names = ", ".join(each.__name__ for each in named)
        raise LoadError("model.py has several classes with a method predict: %s; name the one to serve Model" % names)
    raise LoadError("model.py has no class with a method predict, and no class %s; add one" % _TRITON)
