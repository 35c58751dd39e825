"""GPU metrics from NVIDIA's management library."""

from collections.abc import Iterator

from gateway.metrics.exposition import Family

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

    def collect(self) -> Iterator[Family]:
        if not self._devices:
            return
        load = Family("nv_gpu_utilization", "GPU utilization, 0 to 1", "gauge", ["gpu_uuid"])
        total = Family("nv_gpu_memory_total_bytes", "GPU memory", "gauge", ["gpu_uuid"])
        used = Family("nv_gpu_memory_used_bytes", "GPU memory in use", "gauge", ["gpu_uuid"])
        power = Family("nv_gpu_power_usage", "GPU power, watts", "gauge", ["gpu_uuid"])
        for device in self._devices:
            uuid = str(pynvml.nvmlDeviceGetUUID(device))
            memory = pynvml.nvmlDeviceGetMemoryInfo(device)
            load.add([uuid], pynvml.nvmlDeviceGetUtilizationRates(device).gpu / 100)
            total.add([uuid], memory.total)
            used.add([uuid], memory.used)
            power.add([uuid], pynvml.nvmlDeviceGetPowerUsage(device) / 1000)
        yield from (load, total, used, power)
