"""Runs a session without the Python of `InferenceSession.run`, which takes as long as a small model.

That function reads the name and type of every input again for each run. It also moves the session to another execution
provider if one fails, which makes no difference on the CPU.
"""

from typing import Any, Callable, Dict, List, Sequence

import numpy as np

# Takes the outputs, the inputs, and an ort.RunOptions. Without options, each run would make new ones.
Run = Callable[[Sequence[str], Dict[str, np.ndarray], Any], List[Any]]


def direct_run(session: Any) -> Run:
    """Return a function that does the same as `session.run`, for a session on the CPU."""
    inner = getattr(session, "_sess", None)
    return session.run if inner is None else inner.run  # the attribute is not documented
