"""Gauges of a sweep among Ray's metrics, which Prometheus collects from each node.

Each has the tag `sweep`. Ray exports them with the prefix `ray_`, at the metrics port of the
driver's node (`ray start --metrics-export-port`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchestrator.monitoring.state_file import SweepState

_DESCRIPTIONS: Final = {
    "bridgesweep_points": "Operating points that the sweep is to complete.",
    "bridgesweep_points_done": "Complete operating points.",
    "bridgesweep_points_failed": "Operating points that failed for good.",
    "bridgesweep_points_cancelled": "Operating points that a person has cancelled.",
    "bridgesweep_jobs": "Jobs of this driver.",
    "bridgesweep_jobs_done": "Finished jobs of this driver.",
    "bridgesweep_jobs_running": "Jobs that run now.",
    "bridgesweep_images_per_second": "Images per second of all trainings together.",
    "bridgesweep_gpu_hours": "GPU-hours of the sweep so far, those of earlier drivers included.",
    "bridgesweep_seconds_left": "Estimated seconds until the last job ends.",
}


def gauge_values(state: SweepState) -> dict[str, float]:
    """The gauges' values by name; those that are not known are left out."""
    points, jobs, left = state["points"], state["jobs"], state["seconds_left"]
    values = {
        "bridgesweep_points": points["total"],
        "bridgesweep_points_done": points["done"],
        "bridgesweep_points_failed": points["failed"],
        "bridgesweep_points_cancelled": points["cancelled"],
        "bridgesweep_jobs": jobs["total"],
        "bridgesweep_jobs_done": jobs["done"],
        "bridgesweep_jobs_running": len(state["running"]),
        "bridgesweep_images_per_second": state["images_per_s"],
        "bridgesweep_gpu_hours": state["gpu_hours"],
    }
    return {**values, **({} if left is None else {"bridgesweep_seconds_left": left})}


class Gauges:
    """Sets the gauges of a sweep; only while Ray runs in this process.

    Args:
        sweep: its name.
    """

    def __init__(self, sweep: str) -> None:
        from ray.util.metrics import Gauge  # after `cluster.running`, which sets the environment

        self._tags = {"sweep": sweep}
        self._gauges = {
            name: Gauge(name, description, tag_keys=("sweep",))
            for name, description in _DESCRIPTIONS.items()
        }

    def set(self, values: Mapping[str, float]) -> None:
        """Set gauges by name."""
        for name, value in values.items():
            self._gauges[name].set(value, self._tags)
