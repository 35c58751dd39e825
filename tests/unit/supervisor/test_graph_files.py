"""Translations for graphs: made once while they are kept, again after a failure, and a limited number of them."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.environments.runtime import discover
from gateway.errors import Unavailable
from gateway.export.jobs import Jobs, RouteFailed
from gateway.lifecycle.policy import State
from gateway.repository.scan import scan
from gateway.supervisor.graph_files import GraphFiles
from tests.support import ROOT

MODELS = [f"m{number}" for number in range(6)]


@pytest.fixture
def versions(tmp_path: Path) -> list[SimpleNamespace]:
    """CNTK's models, served by the runtime that translates them."""
    for name in MODELS:
        file = tmp_path / "repository" / name / "1" / "model.model"
        file.parent.mkdir(parents=True)
        file.write_bytes((ROOT / "model_repo" / "digits_cntk" / "1" / "digits.model").read_bytes())
    known = {"cntk_onnx": discover()["cntk_onnx"]}
    return [SimpleNamespace(config=each, state=State.READY) for each in scan(tmp_path / "repository", known)]


def test_a_translation_is_made_once(
    versions: list[SimpleNamespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    failing = True

    async def run(self: Jobs, environment: object, job: dict[str, str], threads: int) -> dict[str, object]:
        ran.append(job["source"])
        await asyncio.sleep(0)
        if failing:
            raise RouteFailed("a tool's own words")
        await asyncio.to_thread(Path(job["destination"]).write_bytes, b"onnx")
        return {}

    async def environment(runtime: object) -> None:
        return None

    async def main() -> None:
        nonlocal failing
        files = GraphFiles(tmp_path / "graphs", SimpleNamespace(environment=environment))
        first = versions[0]
        with pytest.raises(Unavailable, match=r"model 'm0' could not be translated for its graph$"):
            await files.of(first)
        failing = False
        for found in await asyncio.gather(files.of(first), files.of(first)):
            assert found["main"] == "m0.onnx"
            assert await asyncio.to_thread(Path(found["files"]["m0.onnx"]).read_bytes) == b"onnx"
            assert set(found["files"]) == {"m0.onnx", "model.model"}
        assert len(ran) == 2
        for each in versions:
            await files.of(each)
        assert len(ran) == 1 + len(MODELS)
        kept = [each for each in (tmp_path / "graphs").iterdir() if (each / "model.onnx").exists()]
        assert len(kept) == 4
        first.state = State.UNAVAILABLE
        assert (await files.of(first))["main"] == "model.model"
        await files.close()

    monkeypatch.setattr(Jobs, "run", run)
    asyncio.run(main())
