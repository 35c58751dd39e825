"""The FastAPI app: every route that is not hot."""
