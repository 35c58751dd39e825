"""The dashboard of one model."""

from deploy.grafana.panels import (
    GREEN,
    RED,
    YELLOW,
    Json,
    Query,
    Steps,
    dashboard,
    heat_map,
    stat,
    states,
    table,
    time_series,
)
from deploy.grafana.queries import FAULTS, MODEL, SERVER, STATE_COLORS, mean, quantile, rate, variables


def model() -> Json:
    requests, duration = "modelport_requests_total", "modelport_request_duration_seconds"
    stages = {
        "queue": "modelport_queue_duration_seconds",
        "input": "modelport_compute_input_duration_seconds",
        "compute": "modelport_compute_infer_duration_seconds",
        "output": "modelport_compute_output_duration_seconds",
    }
    succeeded, failed = f'{MODEL},outcome="success"', f'{MODEL},outcome=~"{FAULTS}"'
    agreeing = f'{MODEL},agrees="true"'
    workers = f'{SERVER},process=~"worker-($model)-($version)"'
    rows = {
        "Now": [
            stat("Requests", "reqps", Query(rate(requests, MODEL))),
            stat(
                "Successful",
                "percentunit",
                Query(f"{rate(requests, succeeded)} / {rate(requests, MODEL)}"),
                steps=Steps(RED, [(0.99, YELLOW), (0.999, GREEN)]),
            ),
            stat("p50", "s", Query(quantile(0.5, duration, MODEL))),
            stat("p99", "s", Query(quantile(0.99, duration, MODEL))),
            stat("Rows per batch", "none", Query(mean("modelport_batch_rows", MODEL))),
            stat(
                "Workers ready", "none", Query(f"sum(modelport_workers_up{{{MODEL}}})"), steps=Steps(RED, [(1, GREEN)])
            ),
        ],
        "Latency": [
            heat_map(
                "Duration of requests",
                "s",
                duration,
                f"{{{MODEL}}}",
                "From arrival to answer, failed requests included.",
            ),
            time_series(
                "Quantiles of the duration",
                "s",
                *(
                    Query(quantile(share, duration, MODEL), name)
                    for share, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
                ),
            ),
            time_series(
                "Where the time goes, on average",
                "s",
                *(Query(mean(histogram, MODEL), stage) for stage, histogram in stages.items()),
                about="Of successful requests: waiting in the front and at the worker, then the steps of their batch.",
                stack=True,
            ),
            time_series(
                "Queue against compute, p99",
                "s",
                Query(quantile(0.99, stages["queue"], MODEL), "queue"),
                Query(quantile(0.99, stages["compute"], MODEL), "compute"),
                about="If the queue is longer, the model needs larger batches, more instances, or fewer requests.",
            ),
        ],
        "Throughput and batches": [
            heat_map("Sizes of batches, in rows", "none", "modelport_batch_rows", f"{{{MODEL}}}"),
            time_series(
                "Rows and batches",
                "none",
                Query(rate("modelport_inference_rows_total", MODEL), "rows per second"),
                Query(rate("modelport_executions_total", MODEL), "batches per second"),
                Query(mean("modelport_batch_rows", MODEL), "rows per batch"),
            ),
            time_series(
                "Compute time per row",
                "s",
                Query(
                    f"{rate('modelport_execution_seconds_total', MODEL)} / {rate('modelport_batch_rows_sum', MODEL)}",
                    "seconds per row",
                ),
            ),
            time_series(
                "Requests in progress",
                "none",
                Query(f"sum(modelport_requests_in_flight{{{MODEL}}})", "in flight"),
                Query(f"sum(modelport_requests_queued{{{MODEL}}})", "queued"),
            ),
            table(
                "Batching is off",
                {"": (Query(f"max by (model, version, reason) (modelport_batching_off{{{MODEL}}})"), "")},
                ["model", "version", "reason"],
                "Empty if requests are batched. docs/batching.md explains the reasons.",
                12,
            ),
            time_series(
                "Audited requests, and answers that differed",
                "none",
                Query(rate("modelport_audits_total", MODEL), "audited per second"),
                Query(rate("modelport_audit_differences_total", MODEL), "different per second"),
                about="Batched requests that ran again alone. Any difference means that batching changes answers.",
            ),
        ],
        "Errors": [
            time_series(
                "Unsuccessful requests by outcome",
                "reqps",
                Query(rate(requests, f'{MODEL},outcome!="success"', "outcome") + " > 0", "{{outcome}}"),
                stack=True,
            ),
            time_series(
                "Share of failures by the server",
                "percentunit",
                Query(f"{rate(requests, failed)} / {rate(requests, MODEL)}", "failed"),
            ),
        ],
        "Traffic between versions": [
            time_series(
                "Share of the requests without a version",
                "percentunit",
                Query(f"max by (version) (modelport_traffic_share{{{MODEL}}})", "version {{version}}"),
                about="Only for models with weights: docs/traffic.md.",
                most=1.0,
            ),
            time_series(
                "Copies for a shadow, by outcome",
                "reqps",
                Query(rate("modelport_shadow_requests_total", MODEL, "version, outcome"), "{{version}} {{outcome}}"),
                stack=True,
            ),
            heat_map(
                "Relative difference of a shadow's answers",
                "none",
                "modelport_shadow_relative_difference",
                f"{{{MODEL}}}",
                "The largest difference in an output, divided by its largest value. 0 means that nothing differs.",
            ),
            time_series(
                "Rows with the same best class",
                "percentunit",
                Query(
                    f"{rate('modelport_shadow_best_class_rows_total', agreeing, 'version, output')}"
                    f" / {rate('modelport_shadow_best_class_rows_total', MODEL, 'version, output')}",
                    "{{version}} {{output}}",
                ),
                most=1.0,
            ),
            time_series(
                "Answers from the response cache",
                "percentunit",
                Query(
                    f"{rate('modelport_cache_hits_total', MODEL)} / ({rate('modelport_cache_hits_total', MODEL)}"
                    f" + {rate('modelport_cache_misses_total', MODEL)})",
                    "hits",
                ),
                most=1.0,
            ),
            time_series(
                "Size of the response cache", "bytes", Query(f"sum(modelport_cache_bytes{{{MODEL}}})", "all fronts")
            ),
        ],
        "Starts and memory": [
            states("State", "modelport_model_state", MODEL, "model, version", STATE_COLORS),
            time_series(
                "Workers started and restarted",
                "none",
                Query(f"sum(increase(modelport_worker_starts_total{{{MODEL}}}[$__rate_interval]))", "started"),
                Query(
                    f"sum(increase(modelport_worker_restarts_total{{{MODEL}}}[$__rate_interval]))",
                    "restarted after a crash",
                ),
                width=8,
            ),
            time_series(
                "Cold start",
                "s",
                Query(
                    f"max by (model, version) (modelport_model_load_duration_seconds{{{MODEL}}})",
                    "{{model}} {{version}}",
                ),
                about="From the start of a worker until it was ready, of the slowest that is running.",
                width=8,
            ),
            time_series(
                "Memory of its workers",
                "bytes",
                Query(
                    f"sum by (instance, process) (modelport_process_private_memory_bytes{{{workers}}})",
                    "{{process}}",
                ),
                about="Without files and shared memory.",
                width=8,
            ),
        ],
    }
    about = "One model: latency, queue against compute, batches, errors, starts."
    return dashboard(
        "modelport-model", "modelport / Model", about, variables("modelport_model_state", "model", "version"), rows
    )
