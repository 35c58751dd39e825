"""Channel arguments that determine how long a gRPC connection lives."""

# A client that does not answer a ping within this time is considered dead. This is gRPC's own default for keepalive; a
# shorter time ends connections of slow networks, a longer one keeps dead ones.
_PING_TIMEOUT_S = 20.0


def connection_options(keepalive_s: float, max_age_s: float, grace_s: float) -> list[tuple[str, int]]:
    """Return arguments for build_server. 0 seconds leaves out the arguments of that option.

    keepalive_s  the server sends a ping after this much silence
    max_age_s    a connection accepts no more calls at this age, give or take gRPC's 10 %; grpcio only
    grace_s      how long running calls then have to finish
    """
    options: list[tuple[str, int]] = []
    if keepalive_s:
        options += [
            ("grpc.keepalive_time_ms", _milliseconds(keepalive_s)),
            ("grpc.keepalive_timeout_ms", _milliseconds(_PING_TIMEOUT_S)),
            # grpcio obeys this timeout, whose default is a minute; the native server obeys the one above.
            ("grpc.http2.ping_timeout_ms", _milliseconds(_PING_TIMEOUT_S)),
            # Pings are needed most between calls: routers forget idle connections.
            ("grpc.keepalive_permit_without_calls", 1),
        ]
    if max_age_s:
        options += [
            ("grpc.max_connection_age_ms", _milliseconds(max_age_s)),
            ("grpc.max_connection_age_grace_ms", _milliseconds(grace_s)),
        ]
    return options


def _milliseconds(seconds: float) -> int:
    """Convert to milliseconds, between 1 and the maximum of gRPC's 32-bit integers."""
    return max(1, min(round(seconds * 1000), 2**31 - 1))
