"""Formats the fronts' metrics as the response of Triton's statistics extension, for REST and gRPC."""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.engine.metrics import ModelMetrics
from gateway.metrics.collector import Key, MetricsSnapshot

_STAGES = ("compute_input", "compute_infer", "compute_output")


def model_statistics(totals: Mapping[Key, MetricsSnapshot], versions: Iterable[Key]) -> dict[str, Any]:
    """Return {"model_stats": [an entry for each version]}. Durations are sums in nanoseconds.

    Counts start at 0 with the gateway, and continue when a version is reloaded.
    """
    return {"model_stats": [_record(*key, totals.get(key) or ModelMetrics().snapshot()) for key in versions]}


def _record(name: str, version: str, total: MetricsSnapshot) -> dict[str, Any]:
    succeeded = total["outcomes"].get("success", 0)
    failed = sum(total["outcomes"].values()) - succeeded
    return {
        "name": name,
        "version": version,
        "last_inference": total["last_ms"],
        "inference_count": total["rows"],
        "execution_count": total["executions"],
        "inference_stats": {
            "success": _duration(succeeded, total["succeeded_s"]),
            "fail": _duration(failed, total["failed_s"]),
            **{stage: _duration(sum(total[stage]["counts"]), total[stage]["total"]) for stage in ("queue", *_STAGES)},
            "cache_hit": _duration(total["cache_hits"], total["cache_hit_s"]),
            "cache_miss": _duration(total["cache_misses"], total["cache_miss_s"]),
        },
        "batch_stats": [
            {"batch_size": rows, **{stage: {"count": count, "ns": ns} for stage, ns in zip(_STAGES, sums, strict=True)}}
            for rows, (count, *sums) in sorted((int(rows), figures) for rows, figures in total["batches"].items())
        ],
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": max(0, round(seconds * 1e9))}
