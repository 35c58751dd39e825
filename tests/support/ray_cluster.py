"""Two nodes of Ray on this machine, for scripts that run in its environment."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def two_nodes(cpus: int = 1) -> Iterator[Any]:
    """Start them, connect to them, and yield the cluster."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Cluster writes its address to this folder, even with another temp_dir, and does not create it.
    os.makedirs("/tmp/ray", exist_ok=True)
    import ray
    from ray.cluster_utils import Cluster

    # Short, because paths of Unix sockets are limited to 107 bytes.
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        node = {"num_cpus": cpus, "object_store_memory": 100 << 20}
        head = {"include_dashboard": False, "temp_dir": folder}
        cluster = Cluster(initialize_head=True, head_node_args=node | head)
        try:
            cluster.add_node(**node)
            ray.init(address=cluster.address)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
