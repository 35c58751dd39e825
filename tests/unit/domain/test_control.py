"""Control verbs: the supervisor and the fake engine handle each of them, and JSON preserves them."""

import asyncio
import dataclasses
import json
import socket
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest

from gateway.config import Settings
from gateway.domain import control
from gateway.domain.control import (
    VERBS,
    CancelExport,
    ControlHandlers,
    ControlRequest,
    GetIndex,
    GetMetrics,
    LoadModel,
    SendMetrics,
    StartExport,
    from_json,
    to_json,
)
from gateway.engine.fake import FakeEngine
from gateway.errors import NotFound, Overloaded
from gateway.process.channel import Channel
from gateway.supervisor.supervisor import Supervisor
from tests.support.front_server import answer, models

OF_FRONTS = frozenset(VERBS.values()) - {SendMetrics}


def test_the_fake_engine_handles_every_verb() -> None:
    assert FakeEngine([], answer).handlers.verbs == OF_FRONTS


def test_the_supervisor_handles_every_verb(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, Settings(http="127.0.0.1:0", grpc="127.0.0.1:0", metrics=""), {})
    try:
        assert supervisor.handlers.verbs == OF_FRONTS
        assert asyncio.run(supervisor.handlers(GetIndex())) == []
        assert asyncio.run(supervisor.handlers(GetMetrics()))[1].startswith("# HELP")
    finally:
        supervisor.close()


def example(verb: type[Any]) -> Any:
    values = {int: 7, str: "a"}
    made = {
        each.name: values[each.type] if each.type in values else _container(each.type)
        for each in dataclasses.fields(verb)
    }
    return verb(**made)


def _container(kind: Any) -> Any:
    return {"to": "onnx"} if len(get_args(kind)) == 2 and get_origin(kind) else [["m", "1"]]


@pytest.mark.parametrize("name", sorted(VERBS))
def test_json_preserves_a_verb(name: str) -> None:
    request = example(VERBS[name])
    verb, arguments = json.loads(json.dumps(to_json(request)))
    assert (verb, from_json(verb, arguments)) == (name, request)


def test_verbs_are_frozen_and_unknown_ones_are_refused() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        LoadModel("m").name = "n"  # type: ignore[misc]
    with pytest.raises(NotFound, match="no control verb 'Nothing'"):
        from_json("Nothing", {})
    with pytest.raises(NotFound, match="does not handle 'CancelExport'"):
        asyncio.run(ControlHandlers()(CancelExport("m", "1")))


def test_results_and_errors_of_calls_cross_a_channel() -> None:
    async def refuse(asked: StartExport) -> Any:
        raise Overloaded(f"not {asked.name}, not {asked.options['to']}")

    async def main() -> None:
        handlers = ControlHandlers()
        handlers.add(LoadModel, lambda asked: asked.name.upper())
        handlers.add(StartExport, refuse)
        ours, theirs = socket.socketpair()
        front = await Channel.open(ours, lambda frame: None)
        supervisor = await Channel.open(theirs, lambda frame: None, handlers.on_call)

        async def ask(request: ControlRequest[Any]) -> Any:
            verb, arguments = to_json(request)
            return await front.call(verb, **arguments)

        assert await ask(LoadModel("m")) == "M"
        with pytest.raises(Overloaded, match="not m, not onnx"):
            await ask(StartExport("m", "1", {"to": "onnx"}))
        with pytest.raises(NotFound, match="does not handle 'GetIndex'"):
            await ask(GetIndex())
        front.close()
        await supervisor.closed

    asyncio.run(main())


def test_the_fake_engine_knows_its_models() -> None:
    engine = FakeEngine(models(), answer)
    assert {entry["name"] for entry in asyncio.run(engine.control(GetIndex()))} == {each.name for each in models()}
    asyncio.run(engine.control(LoadModel("doubler")))
    with pytest.raises(NotFound):
        asyncio.run(engine.control(LoadModel("nosuch")))


def test_all_verbs_are_in_one_module() -> None:
    """`VERBS` lists subclasses, so that a verb in another module would be missing until that module is imported."""
    assert {verb.__module__ for verb in VERBS.values()} == {control.__name__}
