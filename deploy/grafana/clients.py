"""The dashboard of identities and their limits."""

from deploy.grafana.panels import Json, Query, dashboard, table, time_series
from deploy.grafana.queries import SERVER, rate, variables


def clients() -> Json:
    identity = f'{SERVER},identity=~"$identity"'
    requests, refused = "modelport_identity_requests_total", "modelport_identity_refused_total"
    compute = "modelport_identity_compute_seconds_total"
    all_refused = rate(refused, identity, "identity")
    denied = f'{SERVER},outcome=~"unauthenticated|forbidden|quota|overloaded"'
    rows = {
        "Identities": [
            time_series(
                "Requests admitted", "reqps", Query(rate(requests, identity, "identity"), "{{identity}}"), stack=True
            ),
            time_series(
                "Bytes of inputs",
                "Bps",
                Query(rate("modelport_identity_input_bytes_total", identity, "identity"), "{{identity}}"),
                stack=True,
            ),
            time_series(
                "Compute time",
                "none",
                Query(rate(compute, identity, "identity"), "{{identity}}"),
                about="Seconds of models' time per second.",
                stack=True,
            ),
            time_series(
                "Share of all compute time",
                "percentunit",
                Query(
                    f"{rate(compute, identity, 'identity')} / ignoring(identity) group_left {rate(compute, SERVER)}",
                    "{{identity}}",
                ),
                most=1,
            ),
        ],
        "Limits": [
            time_series(
                "Requests refused by a limit",
                "reqps",
                Query(rate(refused, identity, "identity, limit"), "{{identity}}: {{limit}}"),
                about="`share` means that others needed the gateway's own limits.",
            ),
            time_series(
                "Share of requests refused",
                "percentunit",
                Query(
                    f"{all_refused} / ({all_refused} + {rate(requests, identity, 'identity')})",
                    "{{identity}}",
                ),
                most=1,
            ),
            time_series(
                "Requests denied, of all clients",
                "reqps",
                Query(rate("modelport_requests_total", denied, "outcome"), "{{outcome}}"),
                about="Without or with invalid credentials, without permission, or over a limit.",
            ),
            table(
                "Totals",
                {
                    "Requests": (Query(f"sum by (identity) ({requests}{{{identity}}})"), "short"),
                    "Bytes": (
                        Query(f"sum by (identity) (modelport_identity_input_bytes_total{{{identity}}})"),
                        "bytes",
                    ),
                    "Compute": (Query(f"sum by (identity) ({compute}{{{identity}}})"), "s"),
                    "Refused": (Query(f"sum by (identity) ({refused}{{{identity}}})"), "short"),
                },
                ["identity"],
                "Since the gateway started.",
                12,
            ),
        ],
    }
    about = "Who uses modelport, and which limits refuse them. Empty if the server has no identities."
    return dashboard("modelport-clients", "modelport / Clients", about, variables(requests, "identity"), rows)
