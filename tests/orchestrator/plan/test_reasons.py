"""Why a stage is made again: the setting that changed first, found through the inputs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.plan import history as history_module
from orchestrator.plan.history import History
from orchestrator.plan.jobs import Job
from orchestrator.plan.reasons import Reasons
from orchestrator.storage.store import Store
from search_spaces import Stage
from search_spaces.specs.stage import VERSIONS
from tests.orchestrator.plan.finished import finish, plan_of, space_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A storage with everything that the smoke space makes."""
    store = Store(str(tmp_path))
    finish(store, space_of())
    return store


def reasons_of(store: Store, *settings: str) -> dict[str, tuple[str, ...]]:
    """Label of each job that is left -> why its stage, or its first evaluation, is made again."""
    space = space_of(*settings)
    current = {s.key for job in plan_of(space, None).jobs.values() for s in job.stages}
    reasons = Reasons(History(store), space, current)
    return {job.label: reasons.of(first_stage(job)) for job in plan_of(space, store).jobs.values()}


def first_stage(job: Job) -> Stage:
    return job.stage if job.key in job.costs else job.evaluations[0][1]


def kinds(labels: dict[str, tuple[str, ...]]) -> Counter[str]:
    return Counter(label.split(" lambda")[0] for label in labels)


def test_a_changed_setting_is_the_reason_of_all_that_depends_on_it(store: Store) -> None:
    found = reasons_of(store, "d1.lr=0.002")
    assert kinds(found) == {f"hyperprior d{n}": 2 for n in (1, 2, 3)}
    assert set(found.values()) == {("d1.lr 0.001 -> 0.002",)}


def test_a_changed_codec_is_the_reason_of_its_latents_and_points(store: Store) -> None:
    found = reasons_of(store, "codecs.0.train.lr=0.002")
    assert {"hyperprior codec", "hyperprior latents", "hyperprior reconstruction"} < set(
        kinds(found)
    )
    assert set(found.values()) == {("codecs.hyperprior.train.lr 0.001 -> 0.002",)}


def test_every_change_is_named_where_it_counts(store: Store) -> None:
    found = reasons_of(store, "d1.lr=0.002", "d2.gamma=5", "surrogate.tokens=0.5")
    d1, d2 = "d1.lr 0.001 -> 0.002", "d2.gamma 65025.0 -> 5.0"
    tokens = "surrogate.tokens 1.0 -> 0.5"
    assert set(found["hyperprior d1 lambda=0.02 seed=0"]) == {d1, tokens}
    assert set(found["hyperprior d2 lambda=0.02 seed=0"]) == {d1, d2, tokens}
    assert set(found["hyperprior d3 lambda=0.02 seed=0"]) == {d1, tokens}


def test_a_measurement_that_changed_is_the_reason_where_nothing_is_trained(store: Store) -> None:
    found = reasons_of(store, "evaluation.beams=2")
    assert {label for label in found if "d1" in label} == {
        f"hyperprior d1 lambda={rate:g} seed=0" for rate in (0.002, 0.02)
    }
    assert set(found.values()) == {("evaluation.beams 1 -> 2",)}


@pytest.mark.parametrize(
    "setting", ["seeds=[0,1]", "codecs.0.lambdas=[0.002,0.02,0.05]", "mllms=[hub/mllm,hub/two]"]
)
def test_what_is_new_replaces_nothing(store: Store, setting: str) -> None:
    found = reasons_of(store, setting)
    assert found
    assert set(found.values()) == {()}


def test_the_version_of_the_code_is_a_reason(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old = VERSIONS["latents"]
    monkeypatch.setitem(VERSIONS, "latents", old + 7)
    found = reasons_of(store)
    assert set(found.values()) == {(f"the code of latents, version {old} -> {old + 7}",)}
    assert kinds(found)["hyperprior latents"] == 2


def test_the_most_similar_stage_is_compared(store: Store) -> None:
    finish(store, space_of("d1.lr=0.002", "d1.steps=20", "d1.warmup_steps=3"))
    found = reasons_of(store, "d1.lr=0.002", "d1.steps=20", "d1.warmup_steps=4")
    assert set(found.values()) == {("d1.warmup_steps 3 -> 4",)}
    found = reasons_of(store, "d1.batch_size=4")
    assert set(found.values()) == {("d1.batch_size 8 -> 4",)}


def test_an_input_that_is_gone_is_named_by_its_kind(store: Store) -> None:
    store.remove_tree("stages/latents")
    found = reasons_of(store, "codecs.0.train.lr=0.002")
    assert found["hyperprior latents lambda=0.02"] == ()
    assert found["hyperprior d1 lambda=0.02 seed=0"] == (
        "codecs.hyperprior.train.lr 0.001 -> 0.002",
        "other latents",
    )


def test_damaged_manifests_and_those_without_a_subject_are_no_reason(store: Store) -> None:
    for number, path in enumerate(sorted(Path(store.uri).glob("stages/point/*/manifest.json"))):
        path.write_text("{" if number % 2 else path.read_text().replace('"subject"', '"other"'))
    assert all(
        reason == () for label, reason in reasons_of(store, "d1.lr=0.002").items() if "d1" in label
    )


def test_of_a_large_storage_the_newest_are_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "MOST_READ", 3)
    history = History(store)
    newest = history.of_kind("evaluation")
    assert len(newest) == 3
    assert (
        history.left_out("evaluation") == len(list(Path(store.uri).glob("stages/evaluation/*"))) - 3
    )
    assert [past.created for past in newest] == sorted((p.created for p in newest), reverse=True)
    assert history.left_out("latents") == 0


def test_a_setting_that_follows_another_is_no_change_of_its_own(store: Store) -> None:
    """A spec may hold what an unset setting comes to."""
    space = space_of("d1.lr=0.002")
    plan = plan_of(space, store)
    job = next(job for job in plan.jobs.values() if job.label == "hyperprior d1 lambda=0.02 seed=0")
    spec = dict(job.stage.spec)
    spec["train"] = {**spec["train"], "linear_lr": 0.002}
    stage = replace(job.stage, spec=spec)
    assert Reasons(History(store), space, plan.jobs.keys()).of(stage) == ("d1.lr 0.001 -> 0.002",)
    given = space_of("d1.lr=0.002", "d1.linear_lr=0.002")
    first, second = Reasons(History(store), given, plan.jobs.keys()).of(stage)
    assert {first.split()[0], second.split()[0]} == {"d1.lr", "d1.linear_lr"}
