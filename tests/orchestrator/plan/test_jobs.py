"""Jobs of competitors: each reads what it is named for, and waits for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from orchestrator.plan.jobs import Plan
from orchestrator.storage.store import Store
from search_spaces import Stages, evaluation_stage, load_space, operating_points, point_stage

VBR = (
    "{arch: mbt2018-mean-vbr, name: vbr, N: 16, M: 32, rate_lambdas: [0.001, 0.01, 0.1],"
    " qualities: [2, 3], train: {steps: 8, batch_size: 4}}"
)
MEAN = "{arch: mbt2018-mean, N: 16, M: 32, lambdas: [0.02], train: {steps: 8, batch_size: 4}}"
NAMES = ["feature_coding", "shared_neck", "transfer", "transfer_tuned", "end_to_end_oracle"]


def plan() -> Plan:
    settings = [f"codecs=[{MEAN}, {VBR}]", "scenarios=[]", f"baselines=[{', '.join(NAMES)}]"]
    space = load_space("smoke", settings)
    return Plan(space, operating_points(space), {}, None)


def commit(store: Store, stage: str) -> None:
    out = store.new(stage)
    (out / "info.json").write_text("{}")
    store.commit(stage, out, {})


def test_latents_are_of_the_rate_that_they_are_named_for() -> None:
    jobs = [job for job in plan().jobs.values() if job.kind == "latents"]
    found = {job.label: job.subject.codec.rate if job.subject.codec else None for job in jobs}
    assert found == {
        "mbt2018-mean latents lambda=0.02": 0,
        "vbr latents lambda=0.01": 1,
        "vbr latents lambda=0.1": 2,
    }
    for job in jobs:
        codec = job.subject.codec
        assert codec is not None
        assert codec.lambdas == (job.subject.lmbda,)
        assert codec.rate == job.stage.spec.get("rate", 0)


def test_each_competitor_waits_for_what_it_reads() -> None:
    jobs = plan().jobs
    by_label = {job.label: job for job in jobs.values()}
    needs = {
        label: {jobs[key].label for key in job.needs}
        for label, job in by_label.items()
        if job.kind in ("point", "neck")
    }
    shared = "vbr shared_neck all rates seed=0"
    test_data = {"test images", "test episodes"}
    assert needs["feature_coding lambda=1 seed=0"] == {"training images", *test_data}
    assert needs["vbr shared_neck lambda=0.01 seed=0"] == {"vbr codec", shared, *test_data}
    rates = {"vbr latents lambda=0.01", "vbr latents lambda=0.1"}
    assert rates < needs[shared]
    assert [jobs[stage.key].label for stage in by_label[shared].rates] == sorted(rates)
    d1 = "mbt2018-mean d1 lambda=0.02 seed=0"
    assert needs["vbr transfer lambda=0.1 seed=0"] == {"vbr codec", d1, *test_data}
    tuned = needs["vbr transfer_tuned lambda=0.1 seed=0"]
    assert {d1, "vbr latents lambda=0.1", "teacher features"} < tuned
    oracle = needs["vbr end_to_end_oracle lambda=0.1 seed=0"]
    assert {"vbr d1 lambda=0.1 seed=0", "vbr latents lambda=0.1"} < oracle
    assert "teacher features" not in oracle
    # The d1 points are trained for the others' sake and not measured.
    assert by_label[d1].evaluations == ()
    waves = {label: by_label[label].wave for label in (d1, shared, "vbr codec")}
    assert waves == {d1: 1, shared: 1, "vbr codec": 0}
    assert by_label["vbr shared_neck lambda=0.01 seed=0"].wave == 2


def test_the_stages_of_a_point_are_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run asks for them a dozen times; 0.3 ms each."""
    made = plan()
    expected = [point_stage(Stages(made.space, {}), point).key for point in made.points]
    evaluated = [[stage for _, stage in made.evaluations(point)] for point in made.points]

    def refuse(*arguments: object) -> NoReturn:
        raise AssertionError("worked out again")

    monkeypatch.setattr("orchestrator.plan.jobs.point_stage", refuse)
    monkeypatch.setattr("orchestrator.plan.jobs.evaluation_stage", refuse)
    assert [made.key(point) for point in made.points] == expected
    assert [[stage for _, stage in made.evaluations(p)] for p in made.points] == evaluated
    assert made.complete_points() == ()


def test_what_variants_train_alike_and_measure_otherwise_is_trained_once_and_measured_each(
    tmp_path: Path,
) -> None:
    variants = "variants={plain: {}, double: {surrogate.double_norm: true}}"
    codec = "codecs.0.lambdas=[0.02]"
    space = load_space("smoke", ["scenarios=[]", "baselines=[reconstruction]", codec, variants])
    points = operating_points(space)
    plain, double = points
    assert (plain.variant, double.variant) == ("plain", "double")
    stages, store = Stages(space), Store(str(tmp_path))
    trained = point_stage(stages, plain)
    assert trained == point_stage(stages, double)
    measurements = space.measurements

    def keys(variant: str) -> set[str]:
        """The evaluations of the same settings without variants."""
        settings = ["surrogate.double_norm=true"] if variant == "double" else []
        alone = Stages(load_space("smoke", [codec, *settings]))
        point = replace(plain, variant="")
        return {evaluation_stage(alone, point, measured).key for measured in measurements}

    plan = Plan(space, points, {}, store)
    first, second = (plan.jobs[plan.key(point)] for point in points)
    assert first.key == trained.key != second.key
    assert first.key in second.needs
    assert first.stage.key in first.costs
    assert second.stage == first.stage
    assert second.stage.key not in second.costs
    for job, variant in ((first, "plain"), (second, "double")):
        assert job.subject.variant == variant
        assert {stage.key for _, stage in job.evaluations} == keys(variant)
    assert keys("plain").isdisjoint(keys("double"))

    # The other variant alone: its training is another job's, which measures nothing.
    alone = Plan(space, [double], {}, store)
    assert alone.key(double) == plan.key(double)
    assert alone.jobs[trained.key].evaluations == ()
    assert alone.jobs[alone.key(double)].needs[0] == trained.key
    commit(store, trained.path)
    later = Plan(space, points, {}, store)
    assert trained.key not in later.jobs[plan.key(double)].needs
    assert not later.is_complete(double)
    for _, stage in second.evaluations:
        commit(store, stage.path)
    last = Plan(space, points, {}, store)
    assert last.is_complete(double)
    assert not last.is_complete(plain)
    assert plan.key(double) not in last.jobs
