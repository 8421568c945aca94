"""Which passes run side by side, and how many GPUs each may use, without Ray."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.execution.failures import Cause, JobFailure
from orchestrator.execution.features import passes as passes_module
from orchestrator.execution.features.passes import Passes
from orchestrator.execution.features.stream import Room
from orchestrator.execution.job_steps import Settings
from orchestrator.plan.jobs import Job
from orchestrator.plan.room import Ask, Cluster
from orchestrator.scheduling.schedule import Schedule
from orchestrator.storage.store import Store
from search_spaces import Stage, load_space
from tests.orchestrator.plan.demands import alike, one_node

STAGE = Stage("features", "0", {})


def job(kind: str, *needs: str) -> Job:
    return Job(kind, kind, kind, STAGE, 0, 1.0, needs)


class Started:
    """Passes that were started, and the schedule that they run on.

    Attributes:
        rooms: of each pass, by its first job.
    """

    def __init__(self, jobs: Sequence[Job], capacity: Cluster, gpus: float) -> None:
        space = load_space("smoke", (f"resources.gpus_per_worker={gpus}",))
        by_key = {job.key: job for job in jobs}
        self.schedule = Schedule(by_key, alike(1, gpus), capacity)
        self.rooms: dict[str, Room] = {}
        self.failures: list[JobFailure] = []
        self._over = threading.Event()
        self._passes = Passes(
            Settings(space, "", by_key, {}),
            self.schedule,
            lambda event: None,
            self.schedule.finish,
            lambda key, failure: None,
            self.retry,
        )

    def run_pass(
        self,
        settings: Settings,
        jobs: Sequence[Job],
        room: Room,
        done: object,
        progress: object,
        again: object,
        waits: object,
    ) -> None:
        """A pass that computes until the test ends."""
        self.rooms[jobs[0].key] = room
        self._over.wait(30)

    def retry(self, key: str, failure: JobFailure) -> None:
        self.failures.append(failure)
        self.schedule.retry(key)

    def tend(self) -> None:
        self._passes.tend()
        time.sleep(0.2)  # a pass begins in its thread

    def end(self) -> None:
        self._over.set()
        self._passes.join()


@contextmanager
def started(
    monkeypatch: pytest.MonkeyPatch, jobs: Sequence[Job], capacity: Cluster, gpus: float
) -> Iterator[Started]:
    sweep = Started(jobs, capacity, gpus)
    monkeypatch.setattr(passes_module, "GROW_AFTER_S", 0.0)
    monkeypatch.setattr(passes_module, "run_pass", sweep.run_pass)
    yield sweep
    sweep.end()


def test_a_pass_grows_to_every_gpu_and_makes_room_for_jobs_that_become_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = [job("features"), job("codec"), job("point", "codec")]
    with started(monkeypatch, jobs, one_node(64, 8), 1) as sweep:
        assert sweep.schedule.next_job() == jobs[1]
        sweep.tend()
        assert sweep.rooms["features"].actors == 7
        assert sweep.schedule.free_lanes() == 0
        sweep.schedule.finish("codec")
        sweep.tend()  # a point is ready now
        assert sweep.rooms["features"].actors == 7
        assert sweep.schedule.next_job() == jobs[2]
        sweep.tend()
        assert sweep.rooms["features"].actors == 7
        sweep.schedule.finish("point")
        sweep.tend()
        assert sweep.rooms["features"].actors == 8


def test_a_pass_keeps_one_gpu_though_jobs_are_ready_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [job("features"), job("codec"), job("point")]
    with started(monkeypatch, jobs, one_node(64, 2), 1) as sweep:
        sweep.tend()
        assert sweep.rooms["features"].actors == 1
        assert sweep.schedule.free_lanes() == 1


@pytest.mark.parametrize(
    ("capacity", "gpus", "rooms"),
    [
        (one_node(64, 1), 1, {"features": 1}),
        (one_node(64, 4), 1, {"features": 2, "latents": 2}),
        (one_node(64, 3), 1, {"features": 2, "latents": 1}),
        (one_node(2), 0, {"features": 1}),
        (one_node(8), 0, {"features": 4}),
    ],
)
def test_passes_share_the_models_that_have_room(
    capacity: Cluster, gpus: float, rooms: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Latents become ready while a pass of features runs."""
    jobs = [job("features"), job("latents", "codec"), job("codec")]
    with started(monkeypatch, jobs, capacity, gpus) as sweep:
        assert sweep.schedule.next_job() == jobs[2]
        sweep.tend()
        sweep.schedule.finish("codec")
        sweep.tend()
        assert {key: room.actors for key, room in sweep.rooms.items()} == rooms
        assert sweep.schedule.actors_beside_lanes(Ask(gpu=1)) == capacity.gpus


def test_a_pass_of_images_needs_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with started(monkeypatch, [job("images"), job("codec")], one_node(6, 1), 1) as sweep:
        sweep.tend()
        assert (sweep.rooms["images"].cpus, sweep.rooms["images"].actor.gpu) == (6, 0)
        assert sweep.schedule.free_lanes() == 1


def test_a_pass_does_not_grow_to_a_gpu_that_is_free_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = [job("features"), job("codec"), job("point", "codec")]
    with started(monkeypatch, jobs, one_node(64, 2), 1) as sweep:
        sweep.schedule.next_job()
        monkeypatch.setattr(passes_module, "GROW_AFTER_S", 30.0)
        sweep.tend()
        assert sweep.rooms["features"].actors == 1
        sweep.schedule.finish("codec")
        sweep.schedule.running.add("point")
        sweep.schedule.finish("point")
        sweep.tend()
        assert sweep.rooms["features"].actors == 1
        monkeypatch.setattr(passes_module, "GROW_AFTER_S", 0.0)
        sweep.tend()
        assert sweep.rooms["features"].actors == 2


def test_a_pass_that_fails_as_a_whole_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    errors = iter([OSError("input/output error")])

    def run_pass(*arguments: object) -> None:
        for error in errors:
            raise error
        sweep.run_pass(*arguments)  # type: ignore[arg-type]

    with started(monkeypatch, [job("features")], one_node(2), 0) as sweep:
        (tmp_path / "logs").mkdir()
        monkeypatch.setattr(Settings, "store", property(lambda settings: Store(str(tmp_path))))
        monkeypatch.setattr(passes_module, "run_pass", run_pass)
        sweep.tend()
        assert [failure.cause for failure in sweep.failures] == [Cause.UNREACHABLE]
        sweep.tend()
        assert list(sweep.rooms) == ["features"]
