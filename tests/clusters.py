"""Ray clusters of several nodes on this machine."""

from typing import Any

from ray.cluster_utils import Cluster


def make_cluster(**head: Any) -> Cluster:
    """A cluster of one node, without the dashboard, whose dozen processes nothing here needs.

    Args:
        head: of its node, such as `num_cpus`.
    """
    return Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **head})
