"""The console's page of all models: what it computes from cumulative figures, and what it shows."""

import hashlib
import itertools
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.engine.metrics import DURATION_BUCKETS, Histogram
from tests.support.browser import Browser
from tests.support.gateway_process import Gateway, start_gateway

ROW = "[...document.querySelectorAll('#models tbody tr')].map(row => [...row.cells].map(cell => cell.innerText))"
NAMES = f"{ROW}.map(cells => cells[0].split(' ')[0])"
SHOWN = {"do": "wait", "selector": "#models tbody tr"}


def computed(browser: Browser, site: str, call: str, *arguments: Any) -> Any:
    """Call a function of figures.js in the browser."""
    script = f"import('/console/files/figures.js').then(m => m.{call}(...{json.dumps(arguments)}))"
    (result,) = browser.visit(f"{site}/v2/health/live", [{"do": "read", "script": script}]).results
    return result


def bucket(value: float) -> tuple[float, float]:
    """The bounds of the bucket that has this value."""
    edges = [0.0, *DURATION_BUCKETS, math.inf]
    return next((low, high) for low, high in itertools.pairwise(edges) if value <= high)


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@pytest.mark.parametrize("count", [1, 3, 400])
def test_a_percentile_is_in_the_bucket_of_the_right_value(browser: Browser, site: str, count: int) -> None:
    drawn = random.Random(count)
    values = [10 ** drawn.uniform(-4.5, 1.5) for _ in range(count)]
    histogram = Histogram(DURATION_BUCKETS)
    for value in values:
        histogram.observe(value)
    for share in (0.5, 0.99):
        found = computed(browser, site, "quantile", histogram.counts, DURATION_BUCKETS, share)
        low, high = bucket(quantile(values, share))
        assert low <= found <= high


def test_without_observations_there_is_no_percentile(browser: Browser, site: str) -> None:
    assert computed(browser, site, "quantile", [0] * (len(DURATION_BUCKETS) + 1), DURATION_BUCKETS, 0.5) is None
    above = [0] * len(DURATION_BUCKETS) + [3]
    assert computed(browser, site, "quantile", above, DURATION_BUCKETS, 0.5) == DURATION_BUCKETS[-1]


def test_rates_are_of_what_happened_between_two_readings(browser: Browser, site: str) -> None:
    buckets = {"seconds": [1, 2], "rows": [1, 2]}

    def reading(success: int, invalid: int, requests: list[int], queue_s: float, batches: int, rows: int) -> Any:
        queue = {"counts": [success, 0, 0], "total": queue_s}
        return {
            "outcomes": {"success": success, "invalid_request": invalid},
            "executions": batches,
            "queued": 3,
            "in_flight": 5,
            "request": {"counts": requests, "total": 0.0},
            "queue": queue,
            "batch_rows": {"counts": [0, 0, 0], "total": rows},
        }

    earlier, later = reading(10, 1, [10, 0, 1], 1.0, 4, 10), reading(20, 5, [10, 8, 7], 6.0, 6, 20)
    found = computed(browser, site, "rates", later, earlier, 2, buckets)
    assert found == {
        "perSecond": 7,
        "failed": 2,
        "p50": pytest.approx(1 + 7 / 8),
        "p99": 2,
        "queue": 0.5,
        "batch": 5,
        "queued": 3,
        "inFlight": 5,
    }


SERVER = {"started": 1000.5, "at_s": 50.0}


@pytest.mark.parametrize(
    ("later", "earlier", "seconds"),
    [
        ({}, {"at_s": 48.0}, 2.0),
        ({}, {}, 0.0),
        ({}, None, None),
        ({}, {"started": 900.0, "at_s": 48.0}, None),  # the server has started again
        ({}, {"at_s": 10.0}, None),  # the page was in the background
        ({}, {"at_s": 51.0}, None),
    ],
)
def test_only_two_readings_of_now_are_compared(
    browser: Browser, site: str, later: Any, earlier: Any, seconds: float | None
) -> None:
    before = earlier if earlier is None else {**SERVER, **earlier}
    assert computed(browser, site, "between", {**SERVER, **later}, before) == seconds


def test_a_chart_continues_with_readings_of_the_same_version_and_server_only(browser: Browser, site: str) -> None:
    script = """(async () => {
        const {Live} = await import('/console/files/live.js');
        const {figures} = (await (await fetch('/console/data?model=digits_onnx')).json()).models[0];
        const {buckets, server} = await (await fetch('/console/data')).json();
        const live = new Live(document.body);
        const read = (version, more, success) => {
            live.update({version, figures: {...figures, outcomes: {success}}}, {...server, ...more}, buckets);
            return live.charts[0].data.map((column) => column.at(-1) ?? null);
        };
        const readings = [
            read('1', {at_s: 1}, 1000), read('1', {at_s: 3}, 1010),
            read('2', {at_s: 5}, 9000), read('2', {at_s: 7}, 9040),
            read('2', {at_s: 9, started: 1}, 0), read('2', {at_s: 11, started: 1}, 6),
        ];
        const before = live.charts[0].caption.textContent;
        read('3', {at_s: 13, started: 1}, 0);
        return [readings.map((row) => row[1]), before, live.charts[0].caption.textContent];
    })()"""
    (found,) = browser.visit(f"{site}/console/models/digits_onnx", [{"do": "read", "script": script}]).results
    rates, before, after = found
    assert rates == [None, 5, None, 20, None, 3]
    assert (before, after) == ("Requests per second:all 3failed 0", "Requests per second")


def test_a_link_stays_the_same_while_figures_change(browser: Browser, site: str) -> None:
    """Else a click would be lost if the figures changed between pressing and releasing the button."""
    link = "document.querySelector('#models a[href*=digits_onnx]')"
    steps = [
        SHOWN,
        {"do": "read", "script": f"void (globalThis.found = {link})"},
        {"do": "wait", "script": f"{ROW}.some(cells => cells[0].startsWith('digits') && cells[5] !== '–')"},
        {"do": "read", "script": f"globalThis.found === {link}"},
    ]
    assert browser.visit(f"{site}/", steps).check().results[-1] is True


@pytest.mark.parametrize(
    ("call", "value", "written"),
    [
        ("duration", 0.000_438, "438 µs"),
        ("duration", 0.0048, "4.8 ms"),
        ("duration", 0, "0 µs"),
        ("duration", 12.34, "12.3 s"),
        ("duration", None, "–"),
        ("bytes", 26_800_000, "26.8 MB"),
        ("bytes", 999, "999 B"),
        ("bytes", 0, "–"),
        ("number", 12_345.6, "12,346"),
        ("number", 4.5, "4.5"),
    ],
)
def test_numbers_are_short(browser: Browser, site: str, call: str, value: float | None, written: str) -> None:
    assert computed(browser, site, call, value) == written


def test_the_page_shows_every_model_and_what_it_does(browser: Browser, served: Gateway, site: str) -> None:
    script = """(async () => {
        for (let i = 0; i < 20; i++) {
            const body = JSON.stringify({inputs: [Array(64).fill(0.5)]});
            await fetch('/predict/digits_onnx', {method: 'POST', body});
        }
    })()"""
    steps = [
        SHOWN,
        {"do": "read", "script": script},
        {"do": "wait", "script": f"{ROW}.some(cells => cells[0].startsWith('digits') && cells[7] !== '–')"},
        {"do": "read", "script": ROW},
    ]
    *_, rows = browser.visit(f"{site}/", steps).check().results
    cells = {row[0].split()[0]: row for row in rows}
    assert set(cells) == {"digits_onnx", "broken"}
    assert cells["digits_onnx"][1:4] == ["READY", "onnx", "cpu"]
    assert cells["digits_onnx"][4].endswith("MB")
    assert cells["broken"][1].startswith("UNAVAILABLE")
    assert "not an ONNX file" in cells["broken"][1]


def test_a_page_of_a_proxy_is_not_taken_for_an_answer(browser: Browser, site: str) -> None:
    status = "document.getElementById('status').innerText"
    steps = [{"do": "wait", "script": f"{status} !== ''"}, {"do": "read", "script": status}]
    visit = browser.visit(f"{site}/", steps, replaced={"console/data": "<!doctype html><p>Log in"}).check()
    assert visit.results[-1] == "the answer is not that of the server, or it was broken off"


def test_models_can_be_sorted_and_filtered_with_the_keyboard(browser: Browser, site: str) -> None:
    head = "#models thead th:first-child button"
    steps = [
        SHOWN,
        {"do": "read", "script": NAMES},
        {"do": "press", "selector": head, "key": "Enter"},
        {"do": "read", "script": NAMES},
        {"do": "read", "script": "document.querySelector('#models th').getAttribute('aria-sort')"},
        {"do": "read", "script": f"document.activeElement === document.querySelector('{head}')"},
        {"do": "fill", "selector": "#filter", "text": "unavail"},
        {"do": "read", "script": NAMES},
        {"do": "fill", "selector": "#filter", "text": "nothing has this name"},
        {"do": "read", "script": "document.getElementById('empty').innerText"},
    ]
    found = [each for each in browser.visit(f"{site}/", steps).check().results if each is not None]
    up, down, order, has_focus, filtered, empty = found
    assert up == ["broken", "digits_onnx"]
    assert (down, order, has_focus) == (up[::-1], "descending", True)
    assert (filtered, empty) == (["broken"], "no model matches the filter")


def test_whoever_needs_a_key_is_asked_for_it(browser: Browser, tmp_path: Path) -> None:
    identities = tmp_path / "identities.toml"
    key = "mp_" + "k" * 40
    digest = hashlib.sha256(key.encode()).hexdigest()
    identities.write_text(f'[identities.reader]\nkey_sha256 = ["{digest}"]\nroles = ["read"]\n')
    (tmp_path / "repository").mkdir()
    gateway = start_gateway(tmp_path / "repository", tmp_path, "--identities", str(identities))
    try:
        assert httpx.get(f"http://{gateway.http}/console/data").status_code == 401
        steps = [
            {"do": "wait", "selector": "dialog[open]"},
            {"do": "axe"},
            {"do": "fill", "selector": "#key", "text": key},
            {"do": "press", "selector": "#key", "key": "Enter"},
            {"do": "wait", "script": "document.getElementById('server').innerText !== ''"},
            {"do": "read", "script": "document.getElementById('status').innerText"},
            {"do": "read", "script": "JSON.stringify(localStorage) + document.cookie"},
        ]
        visit = browser.visit(f"http://{gateway.http}/", steps)
        assert [each for each in visit.results if each is not None] == [[], "", "{}"]
        assert visit.refused == []
    finally:
        gateway.close()
