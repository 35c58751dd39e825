"""Plots memory over time as an SVG: one line per process, on a logarithmic scale, which shows relative growth."""

import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 56, 190, 28, 44
COLORS = ("#06c", "#c30", "#2a7", "#a3a", "#e90", "#088", "#c69", "#555", "#79c", "#963", "#9b2", "#000")


def plot(series: Mapping[str, Sequence[tuple[float, float]]], warm_s: float, title: str) -> str:
    """Return the SVG. series: name → (seconds, MiB). warm_s: the end of the warm-up, drawn as a dashed line."""
    values = [value for points in series.values() for _, value in points]
    longest = max(seconds for points in series.values() for seconds, _ in points)
    low, high = math.floor(math.log2(min(values))), math.ceil(math.log2(max(values)))

    def x(seconds: float) -> float:
        return LEFT + seconds / longest * (WIDTH - LEFT - RIGHT)

    def y(mib: float) -> float:
        return HEIGHT - BOTTOM - (math.log2(mib) - low) / max(high - low, 1) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="18">{title}</text>',
    ]
    for power in range(low, high + 1):
        height = y(2.0**power)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{2**power}</text>')
    for fifth in range(6):
        seconds = longest * fifth / 5
        parts.append(f'<text x="{x(seconds):.1f}" y="{HEIGHT - 24}" text-anchor="middle">{seconds / 60:.1f}</text>')
    parts.append(f'<text x="{x(longest / 2):.1f}" y="{HEIGHT - 8}" text-anchor="middle">minutes</text>')
    warm = f'x1="{x(warm_s):.1f}" x2="{x(warm_s):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"'
    parts.append(f'<line {warm} stroke="#999" stroke-dasharray="4"/>')
    for number, (name, points) in enumerate(sorted(series.items(), key=lambda each: -each[1][-1][1])):
        color = COLORS[number % len(COLORS)]
        line = " ".join(f"{x(seconds):.1f},{y(value):.1f}" for seconds, value in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        label_at = f'x="{WIDTH - RIGHT + 10}" y="{TOP + 14 + 17 * number}"'
        parts.append(f'<text {label_at} fill="{color}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])
