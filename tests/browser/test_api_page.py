"""The page of the API: Swagger UI from this server, with the key that the user enters."""

import pytest

from gateway.access.access import PolicyAccess
from gateway.access.keys import digest_of
from gateway.access.policy import Policy, Rights
from gateway.access.roles import read_roles
from tests.support.browser import Browser
from tests.support.front_server import in_thread

KEY = "mp_" + "k" * 43
POLICY = Policy(
    Rights(read_roles(["health"])), {"reader": Rights(read_roles(["read", "infer"]))}, {digest_of(KEY): "reader"}
)
OPERATION = "[id*='operations'] .opblock-summary-control"
STATUS = ".live-responses-table tbody .response-col_status"


@pytest.mark.parametrize("dark", [False, True])
def test_an_operation_that_is_open_is_accessible(browser: Browser, site: str, dark: bool) -> None:
    steps = [
        {"do": "click", "selector": OPERATION},
        {"do": "wait", "selector": ".opblock-body .try-out__btn"},
        {"do": "axe"},
    ]
    assert browser.visit(f"{site}/docs", steps, dark=dark).check().results[-1] == []


def test_the_key_that_is_entered_is_sent(browser: Browser) -> None:
    steps = [
        {"do": "fill", "selector": "dialog[open] #key", "text": KEY},
        {"do": "click", "selector": "dialog button.main"},
        {"do": "click", "selector": OPERATION},
        {"do": "click", "selector": ".try-out__btn"},
        {"do": "click", "selector": ".execute"},
        {"do": "wait", "selector": STATUS},
        {"do": "read", "script": f"document.querySelector('{STATUS}').textContent"},
    ]
    with in_thread(PolicyAccess(POLICY)) as serving:
        visit = browser.visit(f"http://127.0.0.1:{serving.port}/docs", steps)
    assert visit.results[-1].startswith("200")
    assert visit.refused == []
    (complaint,) = visit.complaints  # of the request without the key
    assert "401" in complaint
