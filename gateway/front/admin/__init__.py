"""The FastAPI app: all that is not hot."""
