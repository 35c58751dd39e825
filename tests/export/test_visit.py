"""A page is opened in Chromium before its export is written; and what happens without Chromium."""

import asyncio
import shutil
from pathlib import Path

import pytest

from gateway.export import visit
from gateway.export.jobs import RouteFailed
from tests.support.browser import Browser

PAGE = '<body data-state="{}"><p id="problem">{}</p><p id="check">…</p><script>{}</script></body>'


def said(folder: Path, state: str, problem: str = "", script: str = "") -> str:
    (folder / "index.html").write_text(PAGE.format(state, problem, script))
    return asyncio.run(visit.run_page(folder, "wasm"))


def test_what_the_page_says_of_itself(browser: Browser, tmp_path: Path) -> None:
    """Like page.js, the page writes its verdict into the element "check" once all is loaded. The URL has a backend."""
    later = """fetch('index.html').then(() => {
        const check = document.getElementById('check');
        check.dataset.verdict = 'VERDICT';
        check.textContent = 'VERDICT ' + location.search + ' 2 < 3';
    });"""
    sentence = said(tmp_path, "ready", script=later.replace("VERDICT", "ok"))
    assert sentence == "the page was run in Chromium: ok ?backend=wasm 2 < 3"
    with pytest.raises(RouteFailed, match="the page is wrong in Chromium: differs"):
        said(tmp_path, "ready", script=later.replace("VERDICT", "differs"))
    with pytest.raises(RouteFailed, match="the page does not run in Chromium: a file is missing"):
        said(tmp_path, "failed", problem="a file\n is missing")
    assert "Chromium gave no answer" in said(tmp_path, "loading")


def test_without_a_browser_the_report_says_that_it_was_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    sentence = said(tmp_path, "failed")
    assert "was not run here (there is no Chromium)" in sentence
