"""The arguments of `modelport traffic`."""

import pytest

from gateway.commands.http_client import CommandError
from gateway.commands.traffic import Change, _changes


def test_weights_are_read_and_a_version_that_is_named_twice_is_refused() -> None:
    assert _changes(Change(weights=" 3=95, 4=5")) == {"weights": {"3": 95, "4": 5}}
    assert _changes(Change(weights="none", shadow="none")) == {"weights": None, "shadow": None}
    with pytest.raises(CommandError, match="--weights has version 3 twice"):
        _changes(Change(weights="3=95,3=5"))
