"""Medians of interleaved rounds, with their spread, as tables that docs/performance.md takes as they are."""

import statistics
from collections.abc import Sequence


def told(values: Sequence[float], digits: int = 1) -> str:
    """Median, and half the distance from the least to the most."""
    return f"{statistics.median(values):.{digits}f} ±{(max(values) - min(values)) / 2:.{digits}f}"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Of the rounds that ran side by side, each against its neighbour."""
    return told([a / b for a, b in zip(ours, theirs, strict=True)], 2)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[index]) for row in [head, *rows]) for index in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
