"""Ray: a cluster that is joined, or one of our own on the loopback interface."""

import logging
import os

import ray
from ray._private import ray_constants

from harness.errors import InputError

# Ray would otherwise report usage to its maker and warn about settings to come.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


def join(address: str | None) -> None:
    """Connects to the cluster at `address`, or starts one on this machine; once a process.

    Raises:
        InputError: no cluster answers at the address, or it refuses us.
    """
    if ray.is_initialized():
        return
    if address is None:
        # A cluster of our own stays on the loopback interface. Ray takes no address for that: it
        # exchanges 127.0.0.1 for the machine's own, unless told that there is but one machine.
        os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
        ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        ray.init(
            address=address or "local",
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        raise InputError(
            f"--address {address}: no Ray cluster lets us in there; start one by ray start --head, "
            "with the same RAY_AUTH_MODE and token here and on its machines"
        ) from error


def resource(name: str) -> float:
    """How much of a resource, such as "GPU", the joined cluster has."""
    return float(ray.cluster_resources().get(name, 0))  # type: ignore[no-untyped-call]
