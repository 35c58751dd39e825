"""GPU metrics from NVIDIA's management library."""

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

try:
    import pynvml
except ImportError:  # the package nvidia-ml-py is an extra: `pip install modelport[gpu]`
    pynvml = None


class GpuCollector:
    """Collects nothing if the library or a GPU is missing."""

    def __init__(self) -> None:
        self._devices: list[object] = []
        if pynvml is None:
            return
        try:
            pynvml.nvmlInit()
            self._devices = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError:
            self._devices = []

    def collect(self) -> Iterator[Metric]:
        if not self._devices:
            return
        load = GaugeMetricFamily("nv_gpu_utilization", "GPU utilization, 0 to 1", labels=["gpu_uuid"])
        total = GaugeMetricFamily("nv_gpu_memory_total_bytes", "GPU memory", labels=["gpu_uuid"])
        used = GaugeMetricFamily("nv_gpu_memory_used_bytes", "GPU memory in use", labels=["gpu_uuid"])
        power = GaugeMetricFamily("nv_gpu_power_usage", "GPU power, watts", labels=["gpu_uuid"])
        for device in self._devices:
            uuid = str(pynvml.nvmlDeviceGetUUID(device))
            memory = pynvml.nvmlDeviceGetMemoryInfo(device)
            load.add_metric([uuid], pynvml.nvmlDeviceGetUtilizationRates(device).gpu / 100)
            total.add_metric([uuid], memory.total)
            used.add_metric([uuid], memory.used)
            power.add_metric([uuid], pynvml.nvmlDeviceGetPowerUsage(device) / 1000)
        yield from (load, total, used, power)
