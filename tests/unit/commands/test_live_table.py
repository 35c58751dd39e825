"""What the live table shows below the models: a command to try, and who may do what."""

from types import SimpleNamespace
from typing import Any

from gateway.commands.live_table import hints, notes
from gateway.domain.types import ModelStatus
from runtimes.contract import Signature, TensorSpec


def supervisor(note: str = "", requires_keys: bool = False) -> Any:
    signature = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
    status = ModelStatus("m", "1", "READY", signatures={"default": signature})
    manager = SimpleNamespace(versions={"m": None}, status=lambda version: status)
    return SimpleNamespace(manager=manager, identities=SimpleNamespace(note=note, requires_keys=requires_keys))


def test_a_command_to_try() -> None:
    body = """'{"inputs": {"x": [[1, 1]]}}'"""
    assert hints(supervisor(), "http://here", 150) == ["Try it:", f"curl http://here/predict/m -d {body}"]
    assert hints(supervisor(requires_keys=True), "http://here", 150) == [
        "Try it:",
        f'curl -H "X-API-Key: $MODELPORT_API_KEY" http://here/predict/m -d {body}',
    ]


def test_who_may_do_what_is_shown() -> None:
    assert notes(supervisor()) == []
    assert notes(supervisor("nobody may change it")) == ["nobody may change it"]
