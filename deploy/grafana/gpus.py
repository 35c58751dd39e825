"""The dashboard of GPUs."""

from deploy.grafana.panels import Json, Query, dashboard, time_series
from deploy.grafana.queries import SERVER, variables


def gpu_panels(selector: str) -> list[Json]:
    used, total = f"nv_gpu_memory_used_bytes{{{selector}}}", f"nv_gpu_memory_total_bytes{{{selector}}}"
    return [
        time_series(
            "GPU utilization", "percentunit", Query(f"nv_gpu_utilization{{{selector}}}", "{{gpu_uuid}}"), most=1
        ),
        time_series("GPU memory in use", "percentunit", Query(f"{used} / {total}", "{{gpu_uuid}}"), most=1),
        time_series("GPU memory", "bytes", Query(used, "{{gpu_uuid}} used"), Query(total, "{{gpu_uuid}} total")),
        time_series("GPU power", "watt", Query(f"nv_gpu_power_usage{{{selector}}}", "{{gpu_uuid}}")),
    ]


def gpus() -> Json:
    selector = f'{SERVER},gpu_uuid=~"$gpu_uuid"'
    rows = {"GPUs": gpu_panels(selector)}
    about = "NVIDIA cards, by the names of Triton's metrics. Empty without a card or the package nvidia-ml-py."
    return dashboard("modelport-gpus", "modelport / GPUs", about, variables("nv_gpu_utilization", "gpu_uuid"), rows)
