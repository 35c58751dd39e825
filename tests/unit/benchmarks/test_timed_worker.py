from importlib import import_module
from operator import attrgetter

import pytest

from benchmarks.references.timed_worker import STAGES


@pytest.mark.parametrize("name", [name for names in STAGES.values() for name in names])
def test_every_function_that_is_timed_exists(name: str) -> None:
    module, _, path = name.partition(":")
    assert callable(attrgetter(path)(import_module(f"runtimes.{module}")))
