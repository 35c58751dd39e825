"""The profile as text: a table for the terminal, and a page in Markdown."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from gateway.profile.operators_table import as_markdown
from gateway.profile.point import Point
from gateway.profile.recommendation import Recommendation
from gateway.profile.record import Profile
from runtimes.contract import TensorSpec

_COLUMNS = ("threads", "instances", "batch", "p50 ms", "p99 ms", "rows/s", "memory MiB", "by batch MiB", "runs")


def terminal_table(profile: Profile) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column.upper(), justify="right")
    for point in profile.points:
        style = "bold" if _is_recommended(profile, point) else None
        table.add_row(*_cells(point), style=style)
    return table


def sentences(profile: Profile) -> Iterator[str]:
    """Yield what the table does not show: failed points, notes, and whether the profile is complete."""
    for point in profile.points:
        if point.failed:
            yield f"{_configuration(point)}, a batch of {point.rows}: {point.failed}"
    yield from profile.notes
    if not profile.finished:
        yield "the profile was stopped before the end"


def recommended_lines(found: Recommendation) -> Iterator[str]:
    for key, setting in found.settings.items():
        yield f"{key} = {setting.value:g}  # {setting.reason}"


def markdown(profile: Profile) -> str:
    machine = profile.machine
    lines = [
        f"# Profile of {profile.model}",
        "",
        f"- version {profile.version}, {profile.platform}, signature {profile.signature}, by {profile.runtime}",
        f"- inputs {profile.origin}: {', '.join(f'{name} {list(shape)}' for name, shape in profile.shapes.items())}",
        f"- interface: {_interface(profile.interface.inputs)} → {_interface(profile.interface.outputs)}",
        f"- {profile.batching}",
        f"- loads in {profile.load_seconds:.3g} s with at most {_mib(profile.load_peak_bytes)} MiB, and then has "
        f"{_mib(profile.loaded_bytes)} MiB",
        f"- {machine.processor}, {machine.cores} cores, {_mib(machine.memory_bytes)} MiB, {machine.system}",
        f"- modelport {profile.modelport}, {profile.created}",
        "",
        "![throughput, latency and memory by batch size](profile.svg)",
        "",
        *_markdown_table(_COLUMNS, [_cells(point) for point in profile.points]),
        "",
        "p50 and p99 are of one run of the model, without the gateway. rows/s is the batch divided by the median, of "
        "all instances together. Memory is the peak of one process that has run batches of up to this size, and by how "
        "much that exceeds the loaded model.",
    ]
    if found := profile.recommendation:
        target = f" for {profile.latency_target_ms:g} ms" if profile.latency_target_ms else ""
        lines += ["", f"## model.toml{target}", "", "```toml"]
        lines += [
            line
            for key, setting in found.settings.items()
            for line in (f"# {setting.reason}", f"{key} = {setting.value:g}")
        ]
        lines += ["```"]
    if operators := profile.trace.operators:
        of = f"a batch of {profile.trace.rows}" if profile.trace.rows else "one request"
        lines += ["", f"## Operators of {of}, threads {profile.trace.threads}", "", as_markdown(operators).rstrip()]
    if notes := list(sentences(profile)):
        lines += ["", "## Notes", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["--:"] * len(head), *rows)]


def _cells(point: Point) -> list[str]:
    name = [str(point.threads), str(point.instances), str(point.rows or "–")]
    if point.failed:
        return [*name, *["–"] * (len(_COLUMNS) - len(name))]
    figures = [_three(point.p50_ms), _three(point.p99_ms), f"{point.rows_per_s:.0f}"]
    return [*name, *figures, _mib(point.peak_bytes), _mib(point.growth_bytes), str(point.runs)]


def _is_recommended(profile: Profile, point: Point) -> bool:
    return profile.recommendation is not None and profile.recommendation.point == point


def _configuration(point: Point) -> str:
    return f"threads {point.threads}, instances {point.instances}"


def _interface(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.datatype} {'?' if spec.shape is None else list(spec.shape)}" for spec in specs)


def _three(value: float) -> str:
    """Return three significant digits without an exponent."""
    return f"{value:.{max(0, 2 - len(str(int(value))) + 1) if value >= 1 else 3}f}"


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f}"
