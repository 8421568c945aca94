"""A driver carries out requests; without Ray, on the real schedule, plan, monitor and storage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.driver.jobs_on_ray import listener
from orchestrator.execution.job_steps import Settings
from orchestrator.execution.trials.runner import Runner
from orchestrator.monitoring.job_states import JobStates
from orchestrator.monitoring.monitor import Monitor
from orchestrator.monitoring.state_file import read_state
from orchestrator.monitoring.time_left import TimeLeft
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Job, Plan
from orchestrator.scheduling.schedule import Schedule
from orchestrator.steering import steering as steering_module
from orchestrator.steering.inherited import inherit
from orchestrator.steering.larger_space import NotLargerError
from orchestrator.steering.steering import SteeredSweep, Steering
from orchestrator.storage.lease import Lease, only_driver
from orchestrator.storage.provenance import CHECKSUMS, fingerprints
from orchestrator.storage.references import read_references
from orchestrator.storage.store import Store
from orchestrator.storage.sweep_requests import Inbox
from search_spaces import Space, load_space, operating_points, select
from tests.orchestrator.plan.demands import alike, one_node

THEIRS = "python -m orchestrator.sweep theirs"
SMALL = ("codecs.0.lambdas=[0.02]", "scenarios=[d1, d2]", "baselines=[reconstruction]")
LARGE = ("codecs.0.lambdas=[0.02, 0.002]", *SMALL[1:])
D1, D2 = "hyperprior d1 lambda=0.02 seed=0", "hyperprior d2 lambda=0.02 seed=0"
OPTIONS = {"--tracking-uri": "", "--experiment": "bridgesweep"}


class Notes:
    """A view that keeps notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def plan(self, jobs: Mapping[str, Job], lanes: int) -> None:
        pass

    def note(self, text: str) -> None:
        self.lines.append(text)

    def job_event(self, event: JobEvent) -> None:
        pass


class Driver:
    """The parts of a driver that requests change."""

    def __init__(self, store: Store, lease: Lease, *only: str) -> None:
        self.store, self.lease, self.notes = store, lease, Notes()
        space = load_space("smoke", SMALL)
        checksums = fingerprints(space, store.local(CHECKSUMS))
        self.plan = Plan(space, select(operating_points(space), only), checksums, store)
        self.schedule = Schedule(self.plan.jobs, alike(), one_node(2))
        self.states = JobStates()
        left = TimeLeft(self.states)
        monitored = (self.plan, store, "smoke", "mine", self.notes, self.states, left, lease)
        self.monitor = Monitor(*monitored)
        self.monitor.plan(self.plan.jobs, 2)
        settings = Settings(space, store.uri, self.plan.jobs, {})
        look, keep = lambda groups: self.schedule.cluster, lambda limit, running: None
        self.runner = Runner(settings, self.schedule, self.monitor.job_event, look, keep, lease)
        self.complete: list[str] = []
        self.growths: list[int] = []
        sweep = SteeredSweep(
            "smoke",
            store,
            self.plan,
            self.runner,
            lambda settings: None,
            self.monitor,
            OPTIONS,
            self.monitor.job_event,
            lambda: self.growths.append(len(self.plan.wanted)),
            self.complete.append,
        )
        self.inbox = Inbox(store, "smoke", lease.number)
        self.steering = Steering(self.inbox, sweep)
        self._requests = 0

    def ask(self, kind: str, content: dict[str, Any]) -> tuple[bool, str]:
        """Ask, and let the driver look once; returns its answer."""
        self._requests += 1
        file = f"requests/smoke/{self._requests:020}"
        request = {"kind": kind, "content": content, "lease": self.lease.number}
        self.store.write(f"{file}.json", json.dumps(request).encode())
        self.steering.look()
        answer = self.store.read(f"{file}.answer.json")
        if answer is None:
            return False, "no answer"
        parsed = json.loads(answer)
        return parsed["is_accepted"], "\n".join(parsed["lines"])

    def add(self, *settings: str, only: tuple[str, ...] = ()) -> tuple[bool, str]:
        space = load_space("smoke", settings)
        points = [point.fields for point in select(operating_points(space), only)]
        dump = space.model_dump(mode="json")
        content = {"space": dump, "points": points, "command": THEIRS, "options": OPTIONS}
        return self.ask("add", content)

    def run_until(self, label: str) -> str:
        """Run jobs until one with a label runs; returns its trial's id."""
        while True:
            trial_id = f"trial {len(self.schedule.done)}"
            key = self.runner.next_trial(trial_id)
            if key in self.plan.jobs and self.plan.jobs[key].label == label:
                return trial_id
            running = set(self.schedule.running)
            running |= {job.key for job in self.schedule.next_pass()}
            assert running
            for each in running:
                self.schedule.finish(each)
                self.monitor.job_event(JobEvent("finished", each))

    def labels(self, keys: set[str]) -> set[str]:
        return {self.plan.jobs[key].label for key in keys}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


@pytest.fixture
def lease(store: Store) -> Iterator[Lease]:
    with only_driver(store, "smoke") as lease:
        yield lease


@pytest.fixture(autouse=True)
def published(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Keys of the jobs that trials get; nothing of Ray is asked."""
    keys: set[str] = set()
    monkeypatch.setattr(steering_module, "publish", lambda settings, jobs: keys.update(jobs))
    monkeypatch.setattr(steering_module.cluster, "node_ids", lambda: frozenset({"head"}))
    monkeypatch.setattr(steering_module.cluster, "shortages", lambda asks: [])
    monkeypatch.setattr("orchestrator.execution.trials.runner.Passes.tend", lambda passes: None)
    monkeypatch.setattr(Runner, "_alive_nodes", lambda runner: frozenset({"head"}))
    return keys


@pytest.fixture
def driver(store: Store, lease: Lease) -> Driver:
    return Driver(store, lease)


def test_added_points_reach_plan_schedule_monitor_and_the_trials(
    driver: Driver, published: set[str]
) -> None:
    before = set(driver.plan.jobs)
    is_accepted, text = driver.add(*LARGE)
    assert is_accepted, text
    assert text.startswith("added 3 operating points to the sweep that runs on ")
    large = load_space("smoke", LARGE)
    assert driver.plan.space == large
    assert set(driver.plan.points) == set(operating_points(large))
    new = set(driver.plan.jobs) - before
    assert published == new
    assert driver.schedule.jobs.keys() == driver.runner.settings.jobs.keys() == before | new
    assert driver.runner.settings.space == large
    state = driver.monitor.state()
    assert state["points"]["total"] == 6
    assert state["jobs"]["total"] == len(before | new)
    assert state["command"] == THEIRS
    assert driver.growths == [6]
    written = read_state(driver.store, "smoke")
    assert written is not None
    assert written["points"]["total"] == 6, "whoever has the answer sees it in the status"
    kept = driver.inbox.read_added()
    assert kept is not None
    assert (len(kept["points"]), kept["command"]) == (6, THEIRS)
    assert {fields["lmbda"] for fields in kept["added"]} == {0.002}, "the rest is of its command"
    # A deletion of stages must see what the larger space refers to.
    stages = {stage.path for job in driver.plan.jobs.values() for stage in job.stages}
    assert stages <= read_references(driver.store).stages


def test_a_job_that_is_no_point_is_named_as_such(driver: Driver) -> None:
    is_accepted, text = driver.ask("cancel", {"points": ["hyperprior codec lambda=0.02"]})
    assert not is_accepted
    assert "no operating point, but a job that some of them need" in text


def test_a_command_that_is_none_of_this_program_is_refused(driver: Driver) -> None:
    space = load_space("smoke", LARGE)
    points = [point.fields for point in operating_points(space)]
    content = {"space": space.model_dump(mode="json"), "points": points, "options": OPTIONS}
    answer = driver.ask("add", {**content, "command": f"{THEIRS}; rm -r ."})
    assert answer == (False, "its command is none of this program")
    assert driver.monitor.state()["command"] == "mine"


def test_the_same_command_again_adds_nothing(driver: Driver) -> None:
    is_accepted, text = driver.add(*SMALL)
    assert is_accepted
    assert text.startswith("all operating points of this space are in the sweep that runs on ")
    assert driver.growths == []


def test_the_same_command_does_cancelled_points_again(driver: Driver) -> None:
    assert driver.ask("cancel", {"points": ["scenario=d1"]})[0]
    is_accepted, text = driver.add(*SMALL)
    assert is_accepted, text
    assert text == f"cancelled before, and to be done again: {D1}, {D2}"
    assert driver.schedule.cancelled == set()
    state = driver.monitor.state()
    assert (state["points"]["cancelled"], state["cancelled"]) == (0, [])
    driver.run_until(D2)


def test_the_same_command_names_what_has_failed_and_what_is_being_ended(driver: Driver) -> None:
    driver.run_until(D1)
    (key,) = driver.schedule.running
    assert driver.ask("cancel", {"points": [D1]})[0]
    ending = driver.add(*SMALL)[1].splitlines()
    assert ending[-1] == f"cancelled, and just being ended: {D1}"
    driver.schedule.give_up(key, "it diverged")
    failed = driver.add(*SMALL)[1].splitlines()
    assert failed[-1] == f"failed, and done again by the next run: {D1}, {D2}"


def test_a_successor_takes_over_what_was_added_and_not_cancelled(
    driver: Driver, store: Store
) -> None:
    assert driver.add(*LARGE)[0]
    assert driver.ask("cancel", {"points": ["scenario=d2"]})[0]
    small = load_space("smoke", SMALL)
    added = driver.inbox.read_added()
    assert added is not None
    taken = inherit(small, select(operating_points(small), ["scenario=d1"]), "mine", added, store)
    wanted = {(point.scenario, point.lmbda) for point in taken.points}
    # Neither d2 nor the points of the first command that this one leaves out.
    assert wanted == {("d1", 0.02), ("d1", 0.002), ("reconstruction", 0.002)}
    assert taken.count == 2
    assert driver.ask("cancel", {"points": ["lambda=0.002"]})[0]
    assert driver.inbox.read_added() is None


def test_whoever_adds_or_cancels_hears_that_the_storage_does_not_keep_it(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.storage.outage.OUTAGE_S", 0.0)

    def refuse(*arguments: object) -> None:
        raise OSError("no space for added.json")

    with monkeypatch.context() as away:
        away.setattr(Inbox, "keep_added", refuse)
        is_accepted, text = driver.add(*LARGE)
    assert is_accepted, "this driver has them"
    assert "does not keep this (OSError: no space for added.json)" in text
    assert driver.inbox.read_added() is None
    monkeypatch.setattr(Inbox, "keep_added", refuse)
    monkeypatch.setattr(Inbox, "forget_added", refuse)
    is_accepted, text = driver.ask("cancel", {"points": ["lambda=0.002"]})
    assert is_accepted
    assert "does not keep this" in text


def test_what_is_refused_in_the_end_is_kept_for_nobody(
    store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(store, lease, "scenario=d2")
    driver.run_until(D1)
    is_accepted, text = driver.add(*LARGE)
    assert not is_accepted
    assert D1 in text
    assert driver.inbox.read_added() is None


def test_an_error_behind_the_last_job_is_no_refusal(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(asks: object) -> list[str]:
        for key in driver.plan.jobs:
            driver.schedule.finish(key)
        raise RuntimeError("Ray is gone")

    monkeypatch.setattr(steering_module.cluster, "shortages", fail)
    assert driver.add(*LARGE) == (False, "no answer"), "who asks runs the sweep"


def test_points_of_a_selection_are_added_to_another_selection(store: Store, lease: Lease) -> None:
    driver = Driver(store, lease, "scenario=reconstruction")
    is_accepted, text = driver.add(*SMALL, only=("scenario=d1",))
    assert is_accepted, text
    assert {point.scenario for point in driver.plan.points} == {"reconstruction", "d1"}
    assert driver.monitor.state()["command"] == f"mine; {THEIRS}", "neither has all alone"


def test_a_point_that_is_complete_already_is_told_and_not_run(driver: Driver) -> None:
    large = load_space("smoke", LARGE)
    checksums = fingerprints(large, driver.store.local(CHECKSUMS))
    whole = Plan(large, operating_points(large), checksums, None)
    label = "hyperprior d1 lambda=0.002 seed=0"
    (job,) = (job for job in whole.jobs.values() if job.label == label)
    for stage in job.stages:
        out = driver.store.new(stage.path)
        (out / "data").write_bytes(b"1")
        driver.store.commit(stage.path, out, {})
    assert driver.add(*LARGE)[0]
    assert driver.complete == [job.key]
    assert job.key not in driver.schedule.jobs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((*LARGE, "d1.steps=16"), "d1.steps = 16, in the sweep that runs 8"),
        ((LARGE[0], "scenarios=[d2]", SMALL[2]), 'scenarios = ["d2"]'),
    ],
)
def test_another_space_is_refused_and_changes_nothing(
    driver: Driver, settings: tuple[str, ...], message: str
) -> None:
    before = dict(driver.plan.jobs)
    is_accepted, text = driver.add(*settings)
    assert not is_accepted
    assert message in text
    assert driver.plan.jobs == before
    assert driver.inbox.read_added() is None


def test_what_the_cluster_has_no_room_for_is_refused(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering_module.cluster, "shortages", lambda asks: ["room for 0"])
    assert driver.add(*LARGE) == (False, "room for 0")
    assert len(driver.plan.points) == 3


def test_another_tracking_server_is_refused(driver: Driver) -> None:
    space = load_space("smoke", LARGE)
    content = {"space": space.model_dump(mode="json"), "points": [], "command": THEIRS}
    options = {**OPTIONS, "--tracking-uri": "http://other:5000"}
    is_accepted, text = driver.ask("add", {**content, "options": options})
    assert not is_accepted
    assert "--tracking-uri" in text


def test_an_error_of_the_driver_is_answered(driver: Driver) -> None:
    is_accepted, text = driver.ask("add", {"options": OPTIONS})
    assert not is_accepted
    assert "KeyError" in text


@pytest.mark.parametrize("is_there", [True, False])
def test_a_space_with_a_file_that_the_sweep_does_not_name_is_refused_whether_it_is_there(
    driver: Driver, tmp_path: Path, is_there: bool
) -> None:
    weights = tmp_path / "w.safetensors"
    if is_there:
        weights.touch()
    dump = load_space("smoke", SMALL).model_dump(mode="json")
    dump["codecs"].append({**dump["codecs"][0], "name": "other", "weights": str(weights)})
    points = [point.fields for point in operating_points(Space.model_validate(dump))]
    content = {"space": dump, "points": points, "command": THEIRS, "options": OPTIONS}
    is_accepted, text = driver.ask("add", content)
    assert not is_accepted
    (line,) = text.splitlines()
    assert f"names a file or model that the sweep which runs does not: {weights};" in line
    assert "stop that sweep and start it again with this space" in line
    assert driver.inbox.read_added() is None
    # What stands there for a driver that follows was written by nobody else, or is refused, too.
    kept = {**content, "added": points}
    with pytest.raises(NotLargerError, match="names a file or model"):
        inherit(load_space("smoke", SMALL), (), "mine", kept, driver.store)


def test_behind_the_last_job_nothing_is_answered(driver: Driver) -> None:
    for key in driver.plan.jobs:
        driver.schedule.finish(key)
    assert driver.schedule.close_if_over()
    assert driver.add(*LARGE) == (False, "no answer")
    assert len(driver.plan.points) == 3, "the report would miss points that nobody runs"


def test_a_point_that_is_just_trained_for_others_is_refused_and_later_measured(
    store: Store, lease: Lease
) -> None:
    driver = Driver(store, lease, "scenario=d2")
    driver.run_until(D1)
    is_accepted, text = driver.add(*SMALL)
    assert not is_accepted
    assert D1 in text
    (key,) = driver.schedule.running
    driver.schedule.finish(key)
    driver.monitor.job_event(JobEvent("finished", key))
    assert driver.add(*SMALL)[0]
    assert key not in driver.schedule.done
    assert driver.plan.jobs[key].evaluations
    counts = {"total": 3, "done": 0, "failed": 0, "cancelled": 0}
    assert driver.monitor.state()["points"] == counts


def test_more_of_a_point_that_is_added_at_its_end_does_not_count_as_done(
    store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(store, lease, "scenario=d2")
    recorder = SimpleNamespace(listen=lambda event: None)
    listen = listener(driver.plan, driver.monitor, cast("Any", recorder))

    def add_and_listen(event: JobEvent) -> None:
        driver.add(*SMALL)  # as the thread of requests may do at this moment
        listen(event)

    trial_id = driver.run_until(D1)
    (key,) = driver.schedule.running
    monkeypatch.setattr(driver.runner, "_shows_stages", lambda key: True)
    monkeypatch.setattr(driver.runner, "_listener", add_and_listen)
    driver.runner.trial_completed(trial_id)
    monkeypatch.setattr(driver.runner, "_listener", listen)
    driver.add(*SMALL)
    assert driver.plan.jobs[key].evaluations
    assert not driver.plan.is_complete(driver.plan.wanted[key])
    assert driver.monitor.state()["points"]["done"] == 0


def test_a_waiting_point_is_cancelled_with_what_starts_from_it(driver: Driver) -> None:
    is_accepted, text = driver.ask("cancel", {"points": ["scenario=d1"]})
    assert is_accepted, text
    cancelled, needing, again = text.splitlines()
    assert cancelled.startswith("cancelled 1 operating point of the sweep that runs on ")
    assert cancelled.endswith(D1)
    assert needing.endswith(D2)
    assert "does them again, unless its space leaves them out" in again
    assert {D1, D2} <= driver.labels(driver.schedule.cancelled)
    state = driver.monitor.state()
    assert state["points"] == {"total": 3, "done": 0, "failed": 0, "cancelled": 2}
    assert state["cancelled"] == [D1, D2]
    assert state["failed"] == []


def test_the_trial_of_a_running_point_is_to_be_ended_and_costs_no_try(driver: Driver) -> None:
    trial_id = driver.run_until(D1)
    assert driver.runner.trials_to_end() == []
    is_accepted, text = driver.ask("cancel", {"points": [D1]})
    assert is_accepted
    assert "ends now, and keeps its checkpoint" in text
    assert driver.runner.trials_to_end() == [trial_id]
    driver.runner.trial_failed(trial_id, None)
    assert driver.runner.trials_to_end() == []
    state = driver.monitor.state()
    assert (state["cancelled"], state["failed"], state["retried"]) == ([D1, D2], [], [])


def test_the_points_of_a_search_are_not_cancelled(driver: Driver) -> None:
    search = "search={algorithm: random, trials: 2, over: {d1.lr: {log_uniform: [1.0e-5, 0.1]}}}"
    settings = (SMALL[0], "scenarios=[d1]", "baselines=[]", search)
    driver.plan.space = load_space("smoke", settings)
    is_accepted, text = driver.ask("cancel", {"points": [D1]})
    assert not is_accepted
    assert "search" in text
    assert driver.schedule.cancelled == set()


def test_points_that_are_over_are_not_cancelled(driver: Driver) -> None:
    driver.run_until(D2)
    is_accepted, text = driver.ask("cancel", {"points": ["scenario=d1"]})
    assert not is_accepted
    assert text == f"over already: {D1}"
    assert D2 in driver.labels(driver.schedule.running)


def test_a_point_is_prioritised_unless_it_has_started(driver: Driver) -> None:
    is_accepted, text = driver.ask("prioritise", {"points": ["scenario=d1"]})
    assert is_accepted
    assert text.endswith(D1)
    driver.run_until(D1)
    is_accepted, text = driver.ask("prioritise", {"points": ["scenario=d1"]})
    assert not is_accepted
    assert text == f"started, over or cancelled already: {D1}"


def test_an_answer_that_could_not_be_written_is_written_later_and_nothing_done_twice(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = driver.store.write

    def refuse(name: str, data: bytes) -> str:
        if name.endswith(".answer.json"):
            raise OSError("the storage is away")
        return write(name, data)

    monkeypatch.setattr(driver.store, "write", refuse)
    with pytest.raises(OSError, match="away"):
        driver.add(*LARGE)
    monkeypatch.setattr(driver.store, "write", write)
    driver.steering.look()
    (file,) = (n for n in driver.store.names("requests/smoke") if n.endswith(".answer.json"))
    answer = json.loads(driver.store.read(f"requests/smoke/{file}") or b"")
    assert answer["lines"][0].startswith("added 3 operating points")
    assert driver.growths == [6]
