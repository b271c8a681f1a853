"""Hyperparameters that configurations of earlier versions lack."""

from collections.abc import Mapping
from typing import Any

#: Defaults that have changed since, or values of what could not be chosen then: of all
#: configurations, and of those of a family.
_EVERY: dict[str, Any] = {"ema": 0.0, "patience": 15}
_OF_FAMILY: dict[str, dict[str, Any]] = {"lstm": {"initial": "uniform"}}


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration with what it had without naming it, because an earlier version wrote
    it. An empty one says nothing, and stays empty."""
    if not config:
        return {}
    return {**_EVERY, **_OF_FAMILY.get(config.get("family", "lstm"), {}), **config}
