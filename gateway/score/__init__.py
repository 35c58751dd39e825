"""Models over tables: modelport score, and what Spark and Ray run on each of their machines (docs/score.md)."""
