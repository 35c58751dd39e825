"""MLflow's dialect, which SageMaker and Vertex AI share: POST /invocations."""
