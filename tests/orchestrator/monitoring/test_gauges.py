"""The gauges, read from the metrics endpoint of a local Ray as Prometheus reads them."""

import socket
import subprocess
import sys

from prometheus_client.parser import text_string_to_metric_families

from orchestrator.monitoring.gauges import gauge_values
from tests.orchestrator.monitoring.test_status import state_of

EXPORT = """
import sys, time, urllib.request
import ray
from orchestrator.monitoring.gauges import Gauges, gauge_values
from tests.orchestrator.monitoring.test_status import state_of
port = int(sys.argv[1])
ray.init(address="local", include_dashboard=False, num_cpus=1, _metrics_export_port=port)
Gauges("night").set(gauge_values(state_of()))
node = ray.nodes()[0]["NodeManagerAddress"]
while True:
    time.sleep(1)
    try:
        text = urllib.request.urlopen(f"http://{node}:{port}/metrics", timeout=5).read().decode()
    except OSError:
        continue
    if "ray_bridgesweep_gpu_hours" in text:
        print(text)
        break
ray.shutdown()
"""


def test_prometheus_reads_the_gauges_of_a_sweep_at_rays_metrics_port() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", EXPORT, str(port)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    exported = {
        sample.name: sample.value
        for family in text_string_to_metric_families(done.stdout)
        for sample in family.samples
        if sample.labels.get("sweep") == "night"
    }
    assert exported["ray_bridgesweep_points"] == 21
    assert exported["ray_bridgesweep_points_done"] == 5
    assert exported["ray_bridgesweep_points_failed"] == 2
    assert exported["ray_bridgesweep_jobs_running"] == 2
    assert exported["ray_bridgesweep_images_per_second"] == 412.4
    assert exported["ray_bridgesweep_gpu_hours"] == 12.345
    assert exported["ray_bridgesweep_seconds_left"] == 754
    assert exported.keys() == {f"ray_{name}" for name in gauge_values(state_of())}


def test_an_unknown_time_left_is_no_value() -> None:
    values = gauge_values(state_of(seconds_left=None))
    assert "bridgesweep_seconds_left" not in values
    assert values["bridgesweep_jobs"] == 34
