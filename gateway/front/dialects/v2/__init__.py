"""The Open Inference Protocol (v2) and Triton's extensions to it, over REST and gRPC."""
