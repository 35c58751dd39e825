"""Ctrl-C while a command is still importing what it needs."""

import pytest

from gateway import cli
from gateway.cli import score


def test_it_stops_without_a_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def importing(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(score, "run", importing)
    assert cli.main(["score", "m", "in.csv", "--output", "out.csv"]) == 130
    assert capsys.readouterr().err == "modelport: stopped\n"
