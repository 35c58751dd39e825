"""A profile as a TensorBoard log: figures by batch size, the graph with times of operators, and a summary as text."""

import shutil
from pathlib import Path

from gateway.profile.operators_table import as_markdown
from gateway.profile.point import Point
from gateway.profile.record import Profile
from gateway.profile.table import recommended_lines, sentences
from gateway.tensorboard import xplane
from gateway.tensorboard.events import EventFile, available
from gateway.tensorboard.graph import graph_def, run_metadata

FOLDER = "tensorboard"


def write(profile: Profile, folder: Path) -> None:
    """Write the log to this folder, and remove an earlier one. Writes nothing without tensorboardX. Raises OSError."""
    if folder.exists():
        shutil.rmtree(folder)
    if not available():
        return
    for name, points in _runs(profile).items():
        _write_run(points, folder / name)
    _write_graph(profile, folder / "graph")


def _runs(profile: Profile) -> dict[str, list[Point]]:
    """Return the points by the names of runs: one for each number of threads and of instances."""
    found: dict[str, list[Point]] = {}
    for point in profile.points:
        if not point.failed:
            threads = f"{point.threads} thread{'s' if point.threads > 1 else ''}"
            name = threads if point.instances == 1 else f"{point.instances} instances, each {threads}"
            found.setdefault(name, []).append(point)
    return found


def _write_run(points: list[Point], run: Path) -> None:
    """Write the figures of one number of threads. The step is the batch size."""
    file = EventFile(run)
    best = max(points, key=lambda point: point.rows_per_s)
    file.parameters({"threads": best.threads, "instances": best.instances}, _figures(best))
    for point in sorted(points, key=lambda point: point.rows):
        file.scalars(_figures(point), point.rows)
    file.close()


def _figures(point: Point) -> dict[str, float]:
    return {
        "throughput/rows_per_s": point.rows_per_s,
        "latency/p50_ms": point.p50_ms,
        "latency/p99_ms": point.p99_ms,
        "memory/peak_mib": point.peak_bytes / (1 << 20),
        "memory/by_batch_mib": point.growth_bytes / (1 << 20),
    }


def _write_graph(profile: Profile, run: Path) -> None:
    trace = profile.trace
    file = EventFile(run)
    file.text("summary", _summary(profile))
    of = f"a batch of {trace.rows}, threads {trace.threads}" if trace.rows else f"one request, threads {trace.threads}"
    if trace.operators:
        file.text("operators", f"### Operators of {of}\n\n{as_markdown(trace.operators)}")
    if trace.nodes or trace.operators:
        file.graph(graph_def(trace.nodes, trace.operators))
    if trace.operators and trace.operators.operators:  # a profiler may know the duration only
        file.run_metadata(of, run_metadata(trace.nodes, trace.operators))
        xplane.write(run.parent, run.name, trace.operators)
    file.close()


def _summary(profile: Profile) -> str:
    lines = [
        f"### {profile.model} version {profile.version}",
        f"{profile.platform} by {profile.runtime}, on {profile.machine.cores} cores of {profile.machine.processor}.",
    ]
    if found := profile.recommendation:
        target = f" for {profile.latency_target_ms:g} ms" if profile.latency_target_ms else ""
        lines += [f"Recommended in model.toml{target}:", "\n".join(f"    {line}" for line in recommended_lines(found))]
    lines += [f"- {note}" for note in sentences(profile)]
    return "\n\n".join(lines)
