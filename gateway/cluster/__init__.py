"""Spark, Ray Data and Ray Serve: what runs in their processes. They are imported late, and never by the server."""
