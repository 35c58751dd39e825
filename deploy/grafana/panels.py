"""Parts of Grafana dashboards as plain dictionaries: panels, queries, variables, and the layout in rows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, YELLOW, RED, BLUE, GREY = "green", "yellow", "red", "blue", "text"
_COLUMNS = 24


class Query(NamedTuple):
    """A PromQL expression. legend: of its series, as in Grafana's legendFormat."""

    expression: str
    legend: str = "__auto"


class Steps(NamedTuple):
    """Colors by value: `base` below the first of `above`."""

    base: str = GREEN
    above: Sequence[tuple[float, str]] = ()

    def to_json(self) -> Json:
        steps: list[Json] = [{"color": self.base, "value": None}]
        return {"mode": "absolute", "steps": [*steps, *({"color": c, "value": v} for v, c in self.above)]}


_GREEN = Steps()


def time_series(
    title: str,
    unit: str,
    *queries: Query,
    about: str = "",
    width: int = 12,
    stack: bool = False,
    most: float | None = None,
) -> Json:
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 25 if stack else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
    }
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    defaults = {"unit": unit, "min": 0, **({} if most is None else {"max": most}), "custom": custom}
    return _panel("timeseries", title, about, width, 8, _targets(queries), defaults, options)


def stat(title: str, unit: str, query: Query, about: str = "", steps: Steps = _GREEN, width: int = 4) -> Json:
    options = {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return _panel(
        "stat", title, about, width, 4, _targets([query]), {"unit": unit, "thresholds": steps.to_json()}, options
    )


def heat_map(title: str, unit: str, histogram: str, selector: str, about: str = "", width: int = 12) -> Json:
    """`histogram` is the name without _bucket."""
    query = Query(f"sum by (le) (increase({histogram}_bucket{selector}[$__rate_interval]))", "{{le}}")
    options = {
        "calculate": False,
        "cellGap": 1,
        "color": {
            "mode": "scheme",
            "scheme": "Oranges",
            "steps": 64,
            "exponent": 0.5,
            "fill": "dark-orange",
            "reverse": False,
        },
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"yHistogram": True},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }
    targets = [{**target, "format": "heatmap", "exemplar": True} for target in _targets([query])]
    return _panel("heatmap", title, about, width, 8, targets, {}, options)


def table(
    title: str, columns: Mapping[str, tuple[Query, str]], key: Sequence[str], about: str = "", width: int = 24
) -> Json:
    """Columns by name, each with its query and unit. Rows have the labels `key`, by which all queries aggregate.

    A column without a name is not shown.
    """
    queries = [query for query, _ in columns.values()]
    targets = [{**target, "format": "table", "instant": True, "range": False} for target in _targets(queries)]
    # With one query, Grafana calls its value "Value", and with several "Value #A" and so on.
    values = [f"Value #{target['refId']}" if len(targets) > 1 else "Value" for target in targets]
    names = dict(zip(values, columns, strict=True))
    overrides = [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]}
        for name, (_, unit) in columns.items()
        if unit
    ]
    panel = _panel("table", title, about, width, 8, targets, {}, {"showHeader": True, "cellHeight": "sm"})
    panel["fieldConfig"]["overrides"] = overrides
    hidden = {value: True for value, name in names.items() if not name}
    order = {name: position for position, name in enumerate([*key, *names])}
    panel["transformations"] = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {"excludeByName": {"Time": True, **hidden}, "indexByName": order, "renameByName": names},
        },
    ]
    return panel


def states(
    title: str, metric: str, selector: str, by: str, colors: Mapping[str, str], about: str = "", width: int = 24
) -> Json:
    """States over time, of a metric with a label `state` that is 1 for the current one."""
    terms = [f'{metric}{{state="{state}",{selector}}} * {number}' for number, state in enumerate(colors, 1)]
    legend = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    query = Query(f"max by ({by}) ({' or '.join(terms)})", legend)
    shown = {str(n): {"text": state, "color": color, "index": n} for n, (state, color) in enumerate(colors.items(), 1)}
    defaults = {"mappings": [{"type": "value", "options": shown}], "custom": {"fillOpacity": 70, "lineWidth": 0}}
    options = {
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "mergeValues": True,
        "rowHeight": 0.9,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return _panel("state-timeline", title, about, width, 8, _targets([query]), defaults, options)


def _targets(queries: Iterable[Query]) -> list[Json]:
    return [
        {
            "refId": chr(ord("A") + number),
            "datasource": DATASOURCE,
            "expr": query.expression,
            "legendFormat": query.legend,
            "range": True,
            "editorMode": "code",
        }
        for number, query in enumerate(queries)
    ]


def _panel(
    kind: str, title: str, about: str, width: int, height: int, targets: list[Json], defaults: Json, options: Json
) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": DATASOURCE,
        "gridPos": {"w": width, "h": height, "x": 0, "y": 0},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": targets,
    }


def choice(name: str, label: str, metric: str, of: str = "") -> Json:
    """A variable whose values are those of a label of `metric`."""
    query = f"label_values({metric}{of}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


_SOURCE = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}


def dashboard(uid: str, title: str, about: str, variables: Iterable[Json], rows: Mapping[str, Sequence[Json]]) -> Json:
    """Lay out panels below each other in rows of a title each, from left to right."""
    panels: list[Json] = []
    top = 0
    for row, content in rows.items():
        panels.append(
            {"type": "row", "title": row, "collapsed": False, "panels": [], "gridPos": _at(0, top, _COLUMNS, 1)}
        )
        left, top, tallest = 0, top + 1, 0
        for panel in content:
            width, height = panel["gridPos"]["w"], panel["gridPos"]["h"]
            if left + width > _COLUMNS:
                left, top, tallest = 0, top + tallest, 0
            panels.append({**panel, "gridPos": _at(left, top, width, height)})
            left, tallest = left + width, max(tallest, height)
        top += tallest
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["modelport"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [_LINK],
        "templating": {"list": [_SOURCE, *variables]},
        "annotations": {"list": []},
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }


_LINK = {
    "type": "dashboards",
    "title": "modelport",
    "tags": ["modelport"],
    "asDropdown": True,
    "includeVars": True,
    "keepTime": True,
    "targetBlank": False,
    "icon": "external link",
    "tooltip": "",
    "url": "",
}


def _at(left: int, top: int, width: int, height: int) -> Json:
    return {"x": left, "y": top, "w": width, "h": height}
