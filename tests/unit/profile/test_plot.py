"""The plot is valid SVG, shows every point that has figures, and has round numbers at its axes."""

import xml.etree.ElementTree as ElementTree

import pytest

from gateway.profile.plot import axis, svg
from gateway.profile.point import Point
from gateway.profile.record import Machine, Profile, Trace
from runtimes.contract import Signature

NAMESPACE = "{http://www.w3.org/2000/svg}"


def profile(points: list[Point]) -> Profile:
    return Profile(
        model="a<b", version="1", platform="fake", runtime="Fake", signature="default", interface=Signature((), ()),
        origin="generated", shapes={}, batching="", load_seconds=0.1, load_peak_bytes=1 << 20, loaded_bytes=1 << 20,
        machine=Machine("Linux", "CPU & more", 2, 1 << 30, 0.0), versions={}, modelport="0", created="",
        latency_target_ms=0, points=points, trace=Trace(0, 0),
    )  # fmt: skip


def test_every_point_with_figures_is_in_each_panel() -> None:
    points = [
        Point(threads, 1, rows, 9, rows / threads, rows * 2.0, 100.0, 1 << 20, 0)
        for threads in (1, 2)
        for rows in (1, 4)
    ]
    root = ElementTree.fromstring(svg(profile([*points, Point(1, 1, 8, failed="out of memory")])))
    lines = root.findall(f".//{NAMESPACE}polyline")
    assert [len(str(line.get("points")).split()) for line in lines] == [2] * 8  # three panels, and p99, for two lines
    words = [text.text for text in root.iter(f"{NAMESPACE}text")]
    assert "8" not in words
    assert {"1", "4", "1 thread", "2 threads", "a<b version 1 on 2 cores of CPU & more"} <= set(words)


@pytest.mark.parametrize("points", [[], [Point(1, 1, 0, 9, 1.0, 2.0, 1000.0, 0, 0)]], ids=["none", "one request"])
def test_a_plot_of_little(points: list[Point]) -> None:
    ElementTree.fromstring(svg(profile(points)))


@pytest.mark.parametrize(
    ("values", "logarithmic", "ticks"),
    [
        ([3.0, 17.0], False, [0, 5, 10, 15, 20]),
        ([278324.0], False, [0, 100e3, 200e3, 300e3]),
        ([0.3, 40.0], True, [0.1, 1, 10, 100]),
        ([1.0], True, [1, 10]),
    ],
)
def test_axes_have_round_numbers_around_all_values(values: list[float], logarithmic: bool, ticks: list[float]) -> None:
    found = axis(values, logarithmic)
    assert list(found.ticks) == pytest.approx(ticks)
    assert found.low <= min(values) <= max(values) <= found.high
    assert found.y(found.high) < found.y(found.low)
