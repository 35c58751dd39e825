"""The dashboard of all models."""

from deploy.grafana.panels import GREEN, RED, YELLOW, Json, Query, Steps, dashboard, stat, states, table, time_series
from deploy.grafana.queries import FAULTS, PROBLEM, SERVER, STATE_COLORS, mean, quantile, rate, variables


def overview() -> Json:
    requests, duration = "modelport_requests_total", "modelport_request_duration_seconds"
    faults = f'{SERVER},outcome=~"{FAULTS}"'
    now = {
        "Now": [
            stat("Requests", "reqps", Query(rate(requests, SERVER))),
            stat(
                "Failed by the server",
                "percentunit",
                Query(f"{rate(requests, faults)} / {rate(requests, SERVER)}"),
                "The share of requests whose outcome is " + FAULTS.replace("|", ", ") + ".",
                Steps(GREEN, [(0.001, YELLOW), (0.01, RED)]),
            ),
            stat("p99 of all requests", "s", Query(quantile(0.99, duration, SERVER))),
            stat(
                "Versions READY",
                "none",
                Query(f'sum(modelport_models{{{SERVER},state="READY"}})'),
                steps=Steps(RED, [(1, GREEN)]),
            ),
            stat(
                "Versions UNAVAILABLE",
                "none",
                Query(f'sum(modelport_models{{{SERVER},state="UNAVAILABLE"}})'),
                steps=PROBLEM,
            ),
            stat(
                "Alerts firing",
                "none",
                Query('count(ALERTS{alertname=~"Modelport.*",alertstate="firing"}) or vector(0)'),
                "Of deploy/prometheus/rules.yml.",
                PROBLEM,
            ),
        ],
        "Traffic": [
            time_series(
                "Requests by model",
                "reqps",
                Query(rate(requests, f'{SERVER},model!=""', "model"), "{{model}}"),
                stack=True,
            ),
            time_series(
                "Unsuccessful requests by outcome",
                "reqps",
                Query(rate(requests, f'{SERVER},outcome!="success"', "outcome") + " > 0", "{{outcome}}"),
                about="docs/metrics.md lists the outcomes.",
            ),
            time_series(
                "p50 by model", "s", Query(quantile(0.5, duration, f'{SERVER},model!=""', "model"), "{{model}}")
            ),
            time_series(
                "p99 by model", "s", Query(quantile(0.99, duration, f'{SERVER},model!=""', "model"), "{{model}}")
            ),
            time_series(
                "Requests in progress",
                "none",
                Query(f'sum by (model) (modelport_requests_in_flight{{{SERVER},model!=""}})', "{{model}} in flight"),
                Query(f'sum by (model) (modelport_requests_queued{{{SERVER},model!=""}})', "{{model}} queued"),
            ),
            time_series(
                "Rows computed by model",
                "rowsps",
                Query(rate("modelport_inference_rows_total", f'{SERVER},model!=""', "model"), "{{model}}"),
                stack=True,
            ),
        ],
        "Objectives": [
            time_series(
                "Availability: burn rate of the error budget, 1 h",
                "none",
                Query('max by (model) (model:modelport_slo_availability:burn_rate1h{job=~"$job"})', "{{model}}"),
                about="At 1, errors just use up what the objective allows. Needs deploy/prometheus/rules.yml.",
            ),
            time_series(
                "Latency: burn rate of the budget of slow requests, 1 h",
                "none",
                Query('max by (model) (model:modelport_slo_latency:burn_rate1h{job=~"$job"})', "{{model}}"),
                about="As above, for requests that take longer than the threshold, failed ones included.",
            ),
        ],
        "Models": [
            states("State by version", "modelport_model_state", SERVER, "model, version", STATE_COLORS),
            table(
                "Models now",
                {
                    "Requests": (Query(rate(requests, f'{SERVER},model!=""', "model")), "reqps"),
                    "p50": (Query(quantile(0.5, duration, f'{SERVER},model!=""', "model")), "s"),
                    "p99": (Query(quantile(0.99, duration, f'{SERVER},model!=""', "model")), "s"),
                    "Rows per batch": (Query(mean("modelport_batch_rows", f'{SERVER},model!=""', "model")), "none"),
                    "Workers": (Query(f"sum by (model) (modelport_workers_up{{{SERVER}}})"), "none"),
                    "Restarts": (Query(f"sum by (model) (modelport_worker_restarts_total{{{SERVER}}})"), "none"),
                },
                ["model"],
            ),
        ],
    }
    about = "All models of modelport: traffic, failures, latency, objectives and states."
    return dashboard("modelport-overview", "modelport / Overview", about, variables("modelport_build_info"), now)
