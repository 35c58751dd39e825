"""Models that other processes load."""

from dataclasses import replace
from pathlib import Path

from gateway.embedded.options import ModelSpec


def absolute(model: str | ModelSpec) -> ModelSpec:
    """Return a spec that means the same in other working directories. Locations such as s3://… stay as they are."""
    spec = ModelSpec(model) if isinstance(model, str) else model
    path = Path(spec.location)
    return replace(spec, location=str(path.absolute())) if path.exists() else spec
