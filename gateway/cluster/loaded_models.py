"""The models of a process that Spark or Ray has started and uses for many tasks: each is loaded once."""

import threading

from gateway.embedded.model import Model
from gateway.embedded.options import ModelSpec

_models: dict[str, Model] = {}
_lock = threading.Lock()


def loaded(spec: ModelSpec) -> Model:
    """Return the model of the spec, loaded if this process has not loaded it yet. Raises ModelportError.

    It ends with the process. While it is loaded, other threads wait; other processes of the machine that need the same
    environment wait until the first has built it.
    """
    key = repr(spec)
    with _lock:
        if key not in _models or _models[key].closed:
            _models[key] = spec.load(progress=False)
        return _models[key]
