"""On a node that was not found to see the driver's files, no process of a sweep works."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from orchestrator.execution import cluster, fit_nodes
from orchestrator.execution.driver_keys import removed_at_the_end
from orchestrator.execution.failures import Cause, UnfitNodeError, cause_of
from orchestrator.execution.job_run import run_job
from orchestrator.execution.job_steps import Settings
from orchestrator.plan.jobs import Plan
from search_spaces import load_space, operating_points


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Of a sweep whose driver has found no node fit, with a limit of silence of two seconds."""
    space = load_space("smoke", ["resources.silence_s=2"])
    jobs = Plan(space, operating_points(space), {}, None).jobs
    cluster.set_environment(verbose=False)
    ray.init(num_cpus=1, log_to_driver=False)
    try:
        yield Settings(space, str(tmp_path), jobs, {}, frozenset())
    finally:
        ray.shutdown()


def wait(settings: Settings) -> str:
    fit_nodes.wait_until_fit(settings)
    return ray.get_runtime_context().get_node_id()


def test_work_waits_for_its_node_and_goes_elsewhere_without_costing_a_try(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = ray.remote(num_cpus=0, max_retries=0)(wait)
    with pytest.raises(UnfitNodeError, match="was not checked, for 1 s") as raised:
        ray.get(waits.remote(settings))
    assert cause_of(raised.value, frozenset()) is Cause.UNFIT_NODE
    with pytest.raises(UnfitNodeError):
        run_job(
            settings,
            next(iter(settings.jobs)),
            lambda: pytest.fail("it works"),
            lambda metrics: None,
        )
    assert not (tmp_path / "work").exists()

    here = ray.get_runtime_context().get_node_id()
    assert ray.get(waits.remote(replace(settings, fit_nodes=frozenset({here})))) == here
    patient = replace(settings, space=load_space("smoke"))
    monkeypatch.setattr(fit_nodes, "UNFIT_WAIT_S", 0.0)
    with removed_at_the_end(fit_nodes.CHECKED):
        waiting = waits.remote(patient)
        assert ray.wait([waiting], timeout=3)[1] == [waiting]
        fit_nodes.publish(["another"], is_fit=True)
        assert ray.wait([waiting], timeout=3)[1] == [waiting]
        fit_nodes.publish([here], is_fit=True)
        assert ray.get(waiting, timeout=60) == here
        fit_nodes.publish([here], is_fit=False)
        with pytest.raises(UnfitNodeError, match="sees other files, for 0 s"):
            fit_nodes.wait_until_fit(patient)
    with pytest.raises(UnfitNodeError):
        ray.get(waits.remote(settings))


def test_ray_places_nothing_on_a_node_that_is_held(settings: Settings) -> None:
    (node,) = ray.nodes()  # type: ignore[no-untyped-call]
    groups = fit_nodes.hold(node)
    assert ray.get([group.ready() for group in groups], timeout=60)
    works = ray.remote(num_cpus=0.5)(wait).remote(replace(settings, fit_nodes=None))
    assert ray.wait([works], timeout=5)[1] == [works]
    fit_nodes.free(groups)
    assert ray.get(works, timeout=60)
