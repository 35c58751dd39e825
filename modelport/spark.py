"""Models in Spark: docs/spark.md. Needs pyspark, which this package does not install."""

from gateway.cluster.spark import model_udf, score

__all__ = ["model_udf", "score"]
