"""Every page in a real browser: it works without other servers, complains of nothing, and is accessible."""

import httpx
import pytest

from gateway.engine.fake import FakeEngine
from gateway.front.admin.app import build_admin
from tests.support.browser import Browser
from tests.support.front_server import LIMITS

# Each appears as the parameter of a route.
MODELS = {"{model}": "digits_onnx", "{version}": "1"}
ON_A_PHONE = {"do": "look", "width": 360, "height": 740, "dark": True}
OVERFLOW = {"do": "read", "script": "document.documentElement.scrollWidth - document.documentElement.clientWidth"}


# It is a part of the page of a graph: test_graphs.py.
FRAMES = {"/console/netron/"}


def pages() -> list[str]:
    """The paths of the server that may be pages: those that everybody may get. So no page can be forgotten here."""
    paths = []
    for route in build_admin(FakeEngine([], lambda request: []), LIMITS).routes:
        path: str = route.path  # type: ignore[attr-defined]
        if "GET" not in route.methods:  # type: ignore[attr-defined]
            continue
        if getattr(route.endpoint, "is_public", False) and ":path}" not in path and path not in FRAMES:  # type: ignore[attr-defined]
            for parameter, value in MODELS.items():
                path = path.replace(parameter, value)
            paths.append(path)
    return paths


@pytest.mark.parametrize("path", pages())
def test_a_page_needs_nothing_but_its_server(browser: Browser, site: str, path: str) -> None:
    answer = httpx.get(site + path, headers={"accept": "text/html"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    steps = [{"do": "idle"}, {"do": "axe"}, OVERFLOW, ON_A_PHONE, {"do": "axe"}, OVERFLOW]
    visit = browser.visit(site + path, steps).check()
    assert [result for result in visit.results if result is not None] == [[], 0, [], 0]


def test_what_a_page_must_not_do_is_noticed(browser: Browser, site: str) -> None:
    """These would be a link to a CDN, a script that fails, and text that cannot be read."""
    script = """
        const img = document.createElement('img');
        img.src = 'http://cdn.example/image.png';
        document.body.replaceChildren(img);
        console.error('this failed');
        setTimeout(() => { throw new Error('so did this'); });
    """
    steps = [{"do": "idle"}, {"do": "read", "script": f"(() => {{{script}}})()"}, {"do": "idle"}, {"do": "axe"}]
    visit = browser.visit(site + "/", steps)
    assert any("image.png" in text for text in visit.complaints)  # by the page's own policy, before any request
    assert {"this failed", "Error: so did this"} <= set(visit.complaints)
    assert "image-alt" in [each["rule"] for each in visit.results[-1]]
    fetched = {"do": "read", "script": "fetch('http://cdn.example/').catch(() => 'failed')"}
    elsewhere = browser.visit(f"{site}/v2/health/live", [fetched])  # it has no policy
    assert (elsewhere.results, elsewhere.refused) == (["failed"], ["http://cdn.example/"])
