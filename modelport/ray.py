"""Models in Ray Data and Ray Serve: docs/ray.md. Needs the extra `ray`."""

from typing import TYPE_CHECKING, Any

from gateway.cluster.ray_data import Scorer

if TYPE_CHECKING:
    from gateway.cluster.ray_serve import Gateway, serve_app

__all__ = ["Gateway", "Scorer", "serve_app"]


def __getattr__(name: str) -> Any:
    """Import Ray Serve only if it is used: ray[data] does not install it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gateway.cluster import ray_serve

    return getattr(ray_serve, name)
