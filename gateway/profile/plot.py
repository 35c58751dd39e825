"""The profile as an SVG that follows the reader's light or dark theme: throughput, latency and memory by batch size.

It is drawn here, in some hundred lines, because a plotting library is fifty times the size of everything else that the
command needs, and its SVG has the colors of one theme.
"""

from collections.abc import Callable, Sequence
from html import escape
from math import ceil, floor, log10
from typing import NamedTuple

from gateway.profile.point import Point
from gateway.profile.record import Profile

_WIDTH, _HEIGHT = 320, 240  # of one panel
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 34, 40
_GAP, _LEGEND = 12, 22
# Of Okabe and Ito, for readers who confuse colors; each with a value for light and for dark backgrounds. With more
# lines than colors, the marks tell them apart.
_COLORS = (
    ("#0072b2", "#56b4e9"), ("#d55e00", "#e69f00"), ("#00785a", "#3fc79a"), ("#a3508a", "#e09cc6"),
    ("#7a6a00", "#f0e442"), ("#555555", "#bbbbbb"),
)  # fmt: skip
_MARKS = ("circle", "square", "diamond")


class _Panel(NamedTuple):
    """values: class of a line, and what it shows. logarithmic: small values would be invisible otherwise."""

    title: str
    values: Sequence[tuple[str, Callable[[Point], float]]]
    logarithmic: bool = False


_LATENCIES = (("", lambda point: point.p50_ms), ("p99", lambda point: point.p99_ms))
_PANELS = (
    _Panel("rows per second", (("", lambda point: point.rows_per_s),)),
    _Panel("ms per run: p50, and p99 dashed", _LATENCIES, logarithmic=True),
    _Panel("MiB of one process at its peak", (("", lambda point: point.peak_bytes / (1 << 20)),)),
)


def svg(profile: Profile) -> str:
    """Return the plot. Points that failed are left out."""
    points = [point for point in profile.points if not point.failed]
    lines: dict[tuple[int, int], list[Point]] = {}
    for point in points:
        lines.setdefault((point.instances, point.threads), []).append(point)
    rows = sorted({point.rows for point in points})
    chosen = profile.recommendation.point if profile.recommendation else None
    width = len(_PANELS) * (_WIDTH + _GAP)
    legend_rows = ceil(len(lines) / 4)
    height = 30 + _HEIGHT + _LEGEND * legend_rows + 8
    title = f"{profile.model} version {profile.version} on {profile.machine.cores} cores of {profile.machine.processor}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}: throughput, latency and memory by batch size">',
        f"<style>{_style()}</style>",
        f'<rect class="page" width="{width}" height="{height}" rx="6"/>',
        f'<text class="head" x="14" y="21">{escape(title)}</text>',
    ]
    for number, panel in enumerate(_PANELS):
        parts.append(f'<g transform="translate({number * (_WIDTH + _GAP) + 6} 30)">')
        parts += _panel(panel, list(lines.values()), rows, chosen)
        parts.append("</g>")
    for number, (instances, threads) in enumerate(lines):
        x, y = 20 + number % 4 * (width - 20) / 4, 30 + _HEIGHT + _LEGEND * (number // 4) + 8
        name = f"{threads} thread{'s' if threads > 1 else ''}"
        name = f"{instances} instances, each {name}" if instances > 1 else name
        parts.append(f'<line class="line c{number % len(_COLORS)}" x1="{x:.0f}" y1="{y}" x2="{x + 24:.0f}" y2="{y}"/>')
        parts.append(_mark(number, x + 12, y))
        parts.append(f'<text x="{x + 32:.0f}" y="{y + 4}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _style() -> str:
    def colors(theme: int) -> str:
        return "".join(
            f".c{number}{{stroke:{each[theme]}}}.f{number}{{fill:{each[theme]}}}" for number, each in enumerate(_COLORS)
        )

    return (
        "text{font:12px system-ui,sans-serif;fill:#333}.head{font-size:13px;font-weight:600}.page{fill:#fff}"
        ".grid{stroke:#ddd}.axis{stroke:#888}.line{fill:none;stroke-width:2}.p99{stroke-dasharray:4 3;stroke-width:1.3}"
        ".chosen{fill:none;stroke:#333;stroke-width:1.5}"
        + colors(0)
        + "@media(prefers-color-scheme:dark){text{fill:#ddd}.page{fill:#181a1f}.grid{stroke:#383c44}.axis{stroke:#777}"
        ".chosen{stroke:#ddd}" + colors(1) + "}"
    )


class _Axis(NamedTuple):
    """low, high: the ends of a vertical axis."""

    low: float
    high: float
    logarithmic: bool
    ticks: Sequence[float]

    def y(self, value: float) -> float:
        if self.logarithmic:
            part = (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        else:
            part = (value - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - part * (_HEIGHT - _BOTTOM - _TOP)


def axis(values: Sequence[float], logarithmic: bool) -> _Axis:
    """Return an axis with round numbers that has room for all values."""
    most = max(values, default=0) or 1.0
    if logarithmic:
        low, high = floor(log10(min(values, default=1) or 1e-3)), ceil(log10(most))
        high = max(high, low + 1)
        return _Axis(10.0**low, 10.0**high, True, [10.0**power for power in range(low, high + 1)])
    rough = most / 4
    scale = 10.0 ** floor(log10(rough))
    step = next(each * scale for each in (1, 2, 2.5, 5, 10) if each * scale >= rough)
    count = ceil(most / step)
    return _Axis(0.0, step * count, False, [step * number for number in range(count + 1)])


def _panel(panel: _Panel, lines: Sequence[Sequence[Point]], rows: Sequence[int], chosen: Point | None) -> list[str]:
    vertical = axis([value(point) for line in lines for point in line for _, value in panel.values], panel.logarithmic)
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(rows) - 1, 1)

    def x(point_rows: int) -> float:
        return _LEFT + (rows.index(point_rows) * step if len(rows) > 1 else step / 2)

    bottom = _HEIGHT - _BOTTOM
    parts = [f'<text class="head" x="{_LEFT}" y="20">{panel.title}</text>']
    for tick in vertical.ticks:
        y = vertical.y(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{bottom}" x2="{_WIDTH - _RIGHT}" y2="{bottom}"/>')
    for each in rows:
        parts.append(f'<text x="{x(each):.1f}" y="{bottom + 16}" text-anchor="middle">{each or "request"}</text>')
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{bottom + 33}" text-anchor="middle">batch size</text>'
    )
    for number, line in enumerate(lines):
        for name, value in panel.values:
            path = " ".join(f"{x(point.rows):.1f},{vertical.y(value(point)):.1f}" for point in line)
            parts.append(f'<polyline class="line c{number % len(_COLORS)} {name}" points="{path}"/>')
        first = panel.values[0][1]
        for point in line:
            parts.append(_mark(number, x(point.rows), vertical.y(first(point))))
            if point == chosen:
                y = vertical.y(first(point))
                parts.append(f'<circle class="chosen" cx="{x(point.rows):.1f}" cy="{y:.1f}" r="7"/>')
    return parts


def _mark(number: int, x: float, y: float) -> str:
    color = f"f{number % len(_COLORS)}"
    match _MARKS[number % len(_MARKS)]:
        case "circle":
            return f'<circle class="{color}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
        case "square":
            return f'<rect class="{color}" x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"/>'
    return f'<path class="{color}" d="M{x:.1f} {y - 4:.1f}l4 4l-4 4l-4-4z"/>'


def _number(value: float) -> str:
    """Return a short label: 2.5k, 0.01."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
