"""Which operators and nodes take the time of an inference: for the terminal, and as Markdown for profile.md."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.table import Table
from rich.text import Text

from runtimes.profiling import OperatorProfile, OperatorTime

_TOP = 10


@dataclass(frozen=True)
class Share:
    """What an operator or a node takes of the sum of all operators.

    operator  what a node runs, with the number of other operators that it calls; for an operator, its name
    count     the number of executions
    share     of the sum, between 0 and 1
    """

    name: str
    operator: str
    count: int
    us: float
    share: float


def by_operator(profile: OperatorProfile) -> list[Share]:
    return _shares((each.operator, each) for each in profile.operators)


def by_node(profile: OperatorProfile) -> list[Share]:
    return _shares((each.node, each) for each in profile.operators)


def summary(profile: OperatorProfile) -> str:
    """Return sentences about the sum of the operators, the whole inference, and what the profiler costs and lacks."""
    if not profile.operators:
        figures = f"No operator of an inference of {profile.unprofiled_us:,.0f} us is known."
        return " ".join([f"Profiler: {profile.profiler}.", figures, *profile.limits])
    total = sum(each.duration_us for each in profile.operators)
    lanes = len({(each.device, each.lane) for each in profile.operators})
    at_once = f" on {lanes} threads or streams, which can run at the same time," if lanes > 1 else ""
    count = f"{len(profile.operators)} operators take" if len(profile.operators) != 1 else "1 operator takes"
    figures = (
        f"{count} {total:,.0f} us{at_once} of an inference of {profile.duration_us:,.0f} us "
        f"(the median of {profile.runs}), which takes {profile.unprofiled_us:,.0f} us without the profiler."
    )
    return " ".join([f"Profiler: {profile.profiler}.", figures, *profile.limits])


def as_markdown(profile: OperatorProfile, top: int = _TOP) -> str:
    """Return the summary and both tables, with at most `top` rows each. There are none without operators."""
    parts = [summary(profile)]
    for columns, rows in _tables(profile, top):
        rule = ["---:" if column in _NUMBERS else "---" for column in columns]
        parts.append("\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in (columns, rule, *rows)))
    return "\n\n".join(parts) + "\n"


def for_terminal(profile: OperatorProfile, top: int = _TOP) -> Group:
    """Return the same for a rich console."""
    shown: list[Table | Text] = []
    for columns, rows in _tables(profile, top):
        table = Table(box=None, pad_edge=False)
        for column in columns:
            table.add_column(column, justify="right" if column in _NUMBERS else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        shown += [table, Text()]
    return Group(*shown, Text(summary(profile)))


_NUMBERS = ("times", "us", "share")


def _tables(profile: OperatorProfile, top: int) -> Iterable[tuple[list[str], list[list[str]]]]:
    operators, nodes = by_operator(profile), by_node(profile)
    if not operators:
        return
    yield (
        ["operator", "times", "us", "share"],
        [[each.name, str(each.count), *_figures(each)] for each in operators[:top]] + _rest(operators[top:]),
    )
    yield (
        ["node", "operator", "us", "share"],
        [[each.name, each.operator, *_figures(each)] for each in nodes[:top]] + _rest(nodes[top:]),
    )


def _rest(shares: list[Share]) -> list[list[str]]:
    """Return a row for what the table leaves out."""
    if not shares:
        return []
    us, share = sum(each.us for each in shares), sum(each.share for each in shares)
    others = "1 other" if len(shares) == 1 else f"{len(shares)} others"
    return [[others, "", *_figures(Share("", "", 0, us, share))]]


def _figures(share: Share) -> list[str]:
    return [f"{share.us:,.1f}", f"{share.share:.1%}"]


def _shares(named: Iterable[tuple[str, OperatorTime]]) -> list[Share]:
    """Return the sums of the operators by name, the largest first."""
    groups: dict[str, list[OperatorTime]] = {}
    for name, each in named:
        groups.setdefault(name, []).append(each)
    sums = {name: sum(each.duration_us for each in group) for name, group in groups.items()}
    total = sum(sums.values())
    found = [
        Share(
            name=name,
            operator=_operators(group),
            count=len(group),
            us=sums[name],
            share=sums[name] / total if total else 0.0,
        )
        for name, group in groups.items()
    ]
    return sorted(found, key=lambda each: -each.us)


def _operators(group: Sequence[OperatorTime]) -> str:
    outermost = max(group, key=lambda each: each.total_us).operator
    others = len({each.operator for each in group}) - 1
    return f"{outermost} and {others} more" if others else outermost


def _escaped(text: str) -> str:
    """Keep a cell of a Markdown table in its row."""
    return text.replace("|", r"\|").replace("\n", " ")
