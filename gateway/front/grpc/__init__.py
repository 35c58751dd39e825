"""The gRPC transport: servers, errors, connections."""
