"""PromQL that several dashboards use, and the variables that they select by."""

from deploy.grafana.panels import BLUE, GREEN, GREY, RED, YELLOW, Json, Steps, choice

# The outcomes for which the server is responsible; those of deploy/prometheus/rules.yml.
FAULTS = "internal|unavailable|overloaded|deadline|out_of_memory"
SERVER = 'job=~"$job",instance=~"$instance"'
MODEL = f'{SERVER},model=~"$model",version=~"$version"'
STATE_COLORS = {"READY": GREEN, "LOADING": BLUE, "UNLOADED": GREY, "UNLOADING": GREY, "UNAVAILABLE": RED}
BUILD_COLORS = {"READY": GREEN, "WAITING": YELLOW, "BUILDING": BLUE, "FAILED": RED}
PROBLEM = Steps(GREEN, [(1, RED)])
FULL = Steps(GREEN, [(0.8, YELLOW), (0.9, RED)])


def rate(counter: str, selector: str, by: str = "") -> str:
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({counter}{{{selector}}}[$__rate_interval]))"


def quantile(share: float, histogram: str, selector: str, by: str = "") -> str:
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', selector, f'{by}, le' if by else 'le')})"


def mean(histogram: str, selector: str, by: str = "") -> str:
    return f"{rate(f'{histogram}_sum', selector, by)} / {rate(f'{histogram}_count', selector, by)}"


def variables(metric: str, *more: str) -> list[Json]:
    """Choices of job and instance, then of further labels, each among what the earlier ones leave."""
    of, found = "", []
    for name in ("job", "instance", *more):
        found.append(choice(name, name.capitalize(), metric, f"{{{of}}}" if of else ""))
        of += f'{"," if of else ""}{name}=~"${name}"'
    return found
