"""TorchServe's dialect."""
