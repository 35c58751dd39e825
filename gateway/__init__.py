"""The gateway's own interpreter: protocols, routing, repository, environments, metrics.

It never imports a framework. What it knows of the other side of the wall is
`runtimes.contract` and `runtimes.wire`.
"""

__version__ = "0.1.0"
