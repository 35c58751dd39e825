"""TensorFlow Serving's dialect, over REST and gRPC."""
