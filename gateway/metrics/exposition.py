"""The formats of /metrics: OpenMetrics for clients that ask for it, as Prometheus does; otherwise Prometheus' text."""

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from gateway.codecs.media_types import quality

OPENMETRICS = "application/openmetrics-text"
TEXT = "text/plain"


def negotiated(accept: str) -> str:
    """Return OPENMETRICS or TEXT for the value of an Accept header; "" for none.

    The library would also fail at versions that are no numbers, and state any version that a client asks for.
    """
    qualities = {OPENMETRICS: 0.0, TEXT: 0.0}
    for accepted in accept.lower().split(","):
        kind, _, parameters = accepted.partition(";")
        if kind.strip() in qualities:
            qualities[kind.strip()] = max(qualities[kind.strip()], quality(parameters))
    return OPENMETRICS if 0 < qualities[OPENMETRICS] >= qualities[TEXT] else TEXT


def render(registry: CollectorRegistry, accept: str) -> tuple[str, str]:
    """Return the content type and the metrics."""
    encode, content_type = choose_encoder(negotiated(accept))
    return content_type, encode(registry).decode()
