"""The dashboard by Triton's names, for Triton and modelport alike."""

from deploy.grafana.gpus import gpu_panels
from deploy.grafana.panels import Json, Query, dashboard, time_series
from deploy.grafana.queries import MODEL, SERVER, rate, variables


def triton() -> Json:
    def average(part: str, name: str) -> Query:
        success = rate("nv_inference_request_success", MODEL)
        return Query(f"{rate(f'nv_inference_{part}_us', MODEL)} / {success}", name)

    success, failure = "nv_inference_request_success", "nv_inference_request_failure"
    rows = {
        "Requests": [
            time_series("Successful requests", "reqps", Query(rate(success, MODEL, "model"), "{{model}}"), stack=True),
            time_series(
                "Failed requests by reason", "reqps", Query(rate(failure, MODEL, "reason"), "{{reason}}"), stack=True
            ),
            time_series("Average duration of a request", "µs", average("request_duration", "request")),
            time_series(
                "Where the time goes, on average",
                "µs",
                average("queue_duration", "queue"),
                average("compute_input_duration", "input"),
                average("compute_infer_duration", "infer"),
                average("compute_output_duration", "output"),
                stack=True,
            ),
            time_series(
                "Inferences (rows) and executions (batches)",
                "none",
                Query(rate("nv_inference_count", MODEL), "inferences per second"),
                Query(rate("nv_inference_exec_count", MODEL), "executions per second"),
            ),
            time_series(
                "Average batch size",
                "none",
                Query(
                    f"{rate('nv_inference_count', MODEL, 'model')} / {rate('nv_inference_exec_count', MODEL, 'model')}",
                    "{{model}}",
                ),
            ),
            time_series(
                "Pending requests",
                "none",
                Query(f"sum by (model) (nv_inference_pending_request_count{{{MODEL}}})", "{{model}}"),
            ),
            time_series(
                "Load duration",
                "s",
                Query(f"max by (model, version) (nv_model_load_duration_secs{{{MODEL}}})", "{{model}} {{version}}"),
            ),
        ],
        "Machine": [
            time_series(
                "CPU utilization", "percentunit", Query(f"nv_cpu_utilization{{{SERVER}}}", "{{instance}}"), most=1
            ),
            time_series(
                "Memory",
                "bytes",
                Query(f"nv_cpu_memory_used_bytes{{{SERVER}}}", "{{instance}} used"),
                Query(f"nv_cpu_memory_total_bytes{{{SERVER}}}", "{{instance}} total"),
            ),
        ],
        "GPUs": gpu_panels(SERVER),
    }
    about = "By Triton's nv_* metrics alone, so it shows Triton and modelport alike, side by side if both are scraped."
    return dashboard(
        "modelport-triton", "modelport / Triton's metrics", about, variables(success, "model", "version"), rows
    )
