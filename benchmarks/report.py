"""Medians of interleaved rounds with their spread, in tables for docs/performance.md."""

import statistics
from collections.abc import Sequence


def median_and_spread(values: Sequence[float], digits: int = 1) -> str:
    """Return the median, and half the distance between minimum and maximum."""
    return f"{statistics.median(values):.{digits}f} ±{(max(values) - min(values)) / 2:.{digits}f}"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the ratio of interleaved rounds, each divided by its neighbor."""
    return median_and_spread([a / b for a, b in zip(ours, theirs, strict=True)], 2)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[index]) for row in [head, *rows]) for index in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
