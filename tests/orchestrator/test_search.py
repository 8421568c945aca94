"""A search's trials are the point's own training; its algorithms draw from the given ranges."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient

from orchestrator import search as search_module
from orchestrator.driver import search_tuner
from orchestrator.driver.search_tuner import TrialListener, _algorithm, _domain
from orchestrator.execution import driver_keys
from orchestrator.execution.job_steps import Settings
from orchestrator.execution.trials import search_trial
from orchestrator.execution.trials.search_trial import (
    Trained,
    jobs_of,
    rounded,
    searched_points,
    trial_key,
)
from orchestrator.plan.jobs import Plan
from orchestrator.recording.request import Request
from orchestrator.search import _best
from orchestrator.storage.store import Store
from orchestrator.tracking.mlflow_runs import TrialRecord
from orchestrator.validation.inputs import check_packages
from search_spaces import Space, load_space, operating_points
from tests.orchestrator.tracking.trackers import open_tracker

ONE = ["codecs.0.lambdas=[0.02]", "scenarios=[d1]", "baselines=[reconstruction]"]
OVER = (
    "search.over={d1.lr: {log_uniform: [0.0001, 0.01]}, d1.lr_drop: {uniform: [0.1, 1]}, "
    "d1.batch_size: {integers: [2, 4]}, neck.layers: {choice: [1, 3]}}"
)


def space(*more: str) -> Space:
    return load_space("smoke", [*ONE, "search={}", OVER, *more])


def labels_of(searched: Space) -> list[str]:
    return [point.label for point in searched_points(operating_points(searched))]


@pytest.mark.parametrize("lambdas", ["[0.02]", "[0.002, 0.02]"])
def test_a_trial_makes_the_stages_that_a_sweep_with_its_settings_would_make(lambdas: str) -> None:
    searched = space(f"codecs.0.lambdas={lambdas}")
    jobs = jobs_of(searched, {}, labels_of(searched), {"d1.lr": 0.005, "neck.layers": 3})
    changed = [f"codecs.0.lambdas={lambdas}", "d1.lr=0.005", "neck.layers=3"]
    same = load_space("smoke", [*ONE, *changed])
    plan = Plan(same, operating_points(same), {}, None)
    points = searched_points(plan.points)
    assert len(points) == lambdas.count(",") + 1
    assert [job.key for job in jobs] == [plan.key(point) for point in points]
    unchanged = jobs_of(searched, {}, labels_of(searched), {})
    assert not {job.key for job in jobs} & {job.key for job in unchanged}
    for job in jobs:
        assert job.evaluations == ()
        assert {name: stage.key for name, stage in job.inputs.items()} == {
            name: stage.key for name, stage in plan.jobs[job.key].inputs.items()
        }


def test_a_trial_trains_in_the_workers_that_its_scenario_asks_for() -> None:
    from orchestrator.execution.backends.local import LocalBackend
    from orchestrator.execution.backends.train import TrainBackend

    for workers, kind in ((0, LocalBackend), (2, TrainBackend)):
        searched = space(f"resources.workers_per_point={workers}")
        (job,) = jobs_of(searched, {}, labels_of(searched), {})
        settings = Settings(searched, "memory://storage", {job.key: job}, {})
        assert type(search_trial._backend(settings, job, Trained())) is kind


def test_only_points_that_were_asked_for_are_searched_and_name_the_trial() -> None:
    searched = space("codecs.0.lambdas=[0.002, 0.02]")
    both = jobs_of(searched, {}, labels_of(searched), {})
    (second,) = jobs_of(searched, {}, labels_of(searched)[1:], {})
    assert second.key == both[1].key
    assert trial_key([second]) == second.key
    assert trial_key(both) not in {job.key for job in both}
    assert trial_key(both) != trial_key([both[1], both[0]])


def test_a_trial_reports_the_mean_over_its_points_so_far_at_steps_in_all() -> None:
    def report(step: int, **metrics: float) -> dict[str, object]:
        return {"phase": "train", "step": step, "steps": 8, "metrics": metrics}

    first = Trained()
    assert first.row(report(3, loss=1.0)) is None
    assert first.row({"phase": "waiting for workers", "step": 0, "steps": 0}) is None
    assert first.row(report(4, val_loss=3.0)) == {"step": 4, "val_loss": 3.0}
    second = first.followed_by({"steps": 8, "val_loss": 2.0})
    assert second.row(report(4, val_loss=5.0)) == {"step": 12, "val_loss": 3.5}
    done = second.followed_by({"steps": 8, "val_loss": 6.0})
    assert (done.steps, done.val_loss) == (16, 4.0)


def draws(algorithm: str, n: int) -> list[dict[str, Any]]:
    one = space(f"search.algorithm={algorithm}")
    assert one.search is not None
    drawer: Any = _algorithm(one.search, 1)
    domains = {path: _domain(bounds) for path, bounds in one.search.over.items()}
    if algorithm == "optuna":
        drawer.set_search_properties("val_loss", "min", domains)
        found = []
        for number in range(n):
            found.append(rounded(drawer.suggest(str(number))))
            drawer.on_trial_complete(str(number), {"val_loss": found[-1]["d1.lr"]})
        return found
    drawer.add_configurations({"": {"run": "x", "config": domains, "num_samples": n}})
    found = []
    for _ in range(n):
        trial = drawer.next_trial()
        found.append(rounded(trial.config))
        drawer.on_trial_complete(trial.trial_id)
    return found


@pytest.mark.parametrize("algorithm", ["random", "optuna"])
def test_what_is_drawn_lies_in_the_ranges_and_is_the_same_again(algorithm: str) -> None:
    if algorithm == "optuna":
        pytest.importorskip("optuna")
    else:
        from ray.tune.registry import register_trainable

        register_trainable("x", lambda config: None)
    found = draws(algorithm, 40)
    assert found == draws(algorithm, 40)
    rates = [one["d1.lr"] for one in found]
    assert 0.0001 <= min(rates) <= max(rates) <= 0.01
    assert all(rate == float(f"{rate:.4g}") for rate in rates)
    assert {one["d1.batch_size"] for one in found} == {2, 3, 4}
    assert {one["neck.layers"] for one in found} == {1, 3}
    if algorithm == "random":
        middle = sum(math.log10(rate) for rate in rates) / len(rates)
        assert middle == pytest.approx(-3, abs=0.3), "evenly spread over the logarithm"


def test_the_best_is_the_lowest_of_those_that_were_trained_to_the_end() -> None:
    trials = [
        TrialRecord({"d1.lr": 0.1}, "a", "finished", 0.5),
        TrialRecord({"d1.lr": 0.2, "neck.init": "encoder"}, "b", "finished", 0.4),
        TrialRecord({"d1.lr": 0.3}, "c", "stopped", 0.3),
        TrialRecord({"d1.lr": 0.4}, "d", "failed"),
    ]
    found = _best(trials)
    assert found["best"]["key"] == "b"
    assert found["set"] == ["--set d1.lr=0.2", "--set 'neck.init=\"encoder\"'"]
    lines = [line.removeprefix("--set ").strip("'") for line in found["set"]]
    assert load_space("smoke", lines).neck.init == "encoder"
    assert _best(trials[2:]) == {}


def test_a_training_that_stood_still_before_its_last_step_counts_as_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = space("codecs.0.lambdas=[0.002, 0.02]", "d1.steps=8")
    settings = Settings(searched, str(tmp_path), {}, {})
    monkeypatch.setattr(Store, "has", lambda store, stage: True)
    early = {"steps": 3, "val_loss": 2.0}
    monkeypatch.setattr(search_trial, "info_of", lambda store, job: early)
    rows: list[dict[str, float]] = []
    search_trial.train_trial(settings, {}, labels_of(searched), {}, rows.append)
    trial: Any = SimpleNamespace(trial_id="one", config={})
    listener = TrialListener(lambda chosen: "key", [8, 16], 1, lambda line: None)
    listener.on_trial_start(0, [], trial)
    listener.on_trial_result(0, [], trial, rows[-1])
    assert (listener.records["one"].status, listener.records["one"].val_loss) == ("finished", 2.0)


def test_a_search_checks_its_cluster_and_watches_its_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[object] = []

    @contextlib.contextmanager
    def running(*arguments: object) -> Iterator[str]:
        yield "head:1"

    @contextlib.contextmanager
    def head_watched(address: str | None, lost: object) -> Iterator[None]:
        watched.append((address, lost))
        yield

    monkeypatch.setattr(search_module.cluster, "running", running)
    monkeypatch.setattr(search_module, "check_cluster", lambda *arguments: frozenset({"node"}))
    monkeypatch.setattr(search_module, "looking", lambda *arguments: contextlib.nullcontext())
    monkeypatch.setattr(driver_keys, "removed_at_the_end", contextlib.nullcontext)
    monkeypatch.setattr(search_module, "head_watched", head_watched)
    tuned: list[frozenset[str]] = []
    monkeypatch.setattr(
        search_tuner, "tune_search", lambda request, prints, nodes, note: tuned.append(nodes) or []
    )
    monitor: Any = SimpleNamespace(note=print, end_without_head="ends the process")
    store = Store(str(tmp_path))
    request = Request(space(), (), store, "mine", None, False, 0.0, "")
    assert search_module._run_trials(request, {}, [], monitor) == []
    assert tuned == [{"node"}]
    assert watched == [("head:1", "ends the process")]


@pytest.mark.parametrize("status", ["stopped", "failed"])
def test_the_file_of_a_search_is_named_only_if_it_is_this_one_s(
    status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [TrialRecord({"d1.lr": 0.002}, "a", "finished", 0.5), TrialRecord({}, "b", status)]
    searches: list[str] = []

    def run_trials(*arguments: object) -> list[TrialRecord]:
        searches.append(status)
        return trials

    monkeypatch.setattr(search_module, "_run_trials", run_trials)
    monkeypatch.setattr(search_module, "_mean", lambda store, jobs: 1.0)
    monkeypatch.setattr(search_module, "_by_point", lambda store, before, best: [])
    monkeypatch.setattr(search_module, "_log", lambda request, result, monitor: None)
    searched, store = space(), Store(str(tmp_path))
    store.write("mine/search.json", b'{"search": "another search"}')
    request = Request(searched, operating_points(searched), store, "mine", None, False, 0.0, "")
    monitor: Any = SimpleNamespace(note=print)
    texts = [search_module.search(request, monitor).text for _ in range(2)]
    is_kept = status == "stopped"
    assert [f"{tmp_path}/mine/search.json" in text for text in texts] == [is_kept, is_kept]
    assert len(searches) == (1 if is_kept else 2)
    assert all("the same command searches again" in text for text in texts) is not is_kept


def test_the_loss_of_a_trial_is_the_lowest_over_the_points_that_it_has_begun() -> None:
    notes: list[str] = []
    listener = TrialListener(lambda chosen: "key", [8, 16], 2, notes.append)
    trial: Any = SimpleNamespace(trial_id="one", config={"d1.lr": 0.12345})
    listener.on_trial_start(0, [], trial)
    record = listener.records["one"]
    losses = []
    for step, loss in ((4, 2.0), (8, 3.0), (12, 6.0), (16, 7.0)):
        listener.on_trial_result(0, [], trial, {"step": step, "val_loss": loss})
        losses.append(record.val_loss)
    assert losses == [2.0, 2.0, 6.0, 6.0]
    assert record.settings == {"d1.lr": 0.1235}
    listener.on_trial_result(0, [], trial, {"step": 17, "val_loss": 6.5})
    listener.on_trial_complete(0, [], trial)
    assert (record.status, record.val_loss) == ("finished", 6.5)
    assert [step for step, _ in record.curve] == [4, 8, 12, 16]
    assert "1/2 finished val_loss 6.5" in notes[0]


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (problem,) = check_packages(space("search.algorithm=optuna"))
    assert problem.startswith("search.algorithm = 'optuna': ")
    assert "bridgesweep[search]" in problem
    assert check_packages(space("search.algorithm=asha")) == []


def test_a_divided_mllm_needs_accelerate_and_an_mllm(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = "resources={workers_per_point: 1, by_kind: {evaluation: {gpus_per_worker: 2}}}"
    divided = load_space("smoke", [gpus])
    assert divided.mllms
    assert load_space("smoke", [gpus]).resources.of("evaluation").gpus_per_worker == 2
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (problem,) = check_packages(divided)
    assert "gpus_per_worker = 2" in problem
    assert "bridgesweep[gpus]" in problem
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert check_packages(divided) == []
    (problem,) = check_packages(divided.model_copy(update={"mllms": ()}))
    assert "mllms is empty" in problem


def test_trials_are_logged_once_and_are_no_points(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    trial = TrialRecord({"d1.lr": 0.1}, "a", "stopped", 0.5, [(4, 0.7), (8, 0.5)])
    for _ in range(2):
        tracker = open_tracker(tmp_path)
        assert tracker.run_ids() == {}
        tracker.mark_stale(set())
        tracker.log_trial(trial)
    client = MlflowClient(uri)
    (run,) = client.search_runs(["1"], "tags.`bridgesweep.kind` = 'trial'")
    assert run.data.tags["mlflow.parentRunId"] == tracker.parent
    assert run.data.tags["bridgesweep.status"] == "stopped"
    assert run.data.params == {"d1.lr": "0.1"}
    assert run.data.metrics == {"val_loss": 0.5, "best_val_loss": 0.5}
    history = client.get_metric_history(run.info.run_id, "val_loss")
    assert [(m.step, m.value) for m in history] == [(4, 0.7), (8, 0.5)]
