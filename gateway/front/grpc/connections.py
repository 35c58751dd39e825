"""Channel arguments that decide how long a gRPC connection lives."""

# A client that has not answered a ping within this time is gone.
_PING_TIMEOUT_S = 20.0


def connection_options(keepalive_s: float, max_age_s: float, grace_s: float) -> list[tuple[str, int]]:
    """Arguments for build_server; with 0 for a time, none that concern it.

    keepalive_s  after so many seconds in which nothing arrived, the server pings
    max_age_s    at this age, give or take gRPC's 10 %, a connection takes no more calls; grpcio only
    grace_s      how long the calls under way then have to end
    """
    options: list[tuple[str, int]] = []
    if keepalive_s:
        options += [
            ("grpc.keepalive_time_ms", _milliseconds(keepalive_s)),
            ("grpc.keepalive_timeout_ms", _milliseconds(_PING_TIMEOUT_S)),
            # grpcio closes by this one, which is a minute by itself; the native server by the one above.
            ("grpc.http2.ping_timeout_ms", _milliseconds(_PING_TIMEOUT_S)),
            # Idle connections are those that routers forget.
            ("grpc.keepalive_permit_without_calls", 1),
        ]
    if max_age_s:
        options += [
            ("grpc.max_connection_age_ms", _milliseconds(max_age_s)),
            ("grpc.max_connection_age_grace_ms", _milliseconds(grace_s)),
        ]
    return options


def _milliseconds(seconds: float) -> int:
    """At least one, and no more than gRPC's 32 bits hold."""
    return max(1, min(round(seconds * 1000), 2**31 - 1))
