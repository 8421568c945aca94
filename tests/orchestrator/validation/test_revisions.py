"""A model of the hub is one commit, in the space and for all sweeps of a storage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from orchestrator.plan.jobs import Plan
from orchestrator.storage.provenance import fingerprints
from orchestrator.storage.store import Store
from orchestrator.validation.revisions import pin_revisions
from orchestrator.validation.teachers import teacher_sizes
from search_spaces import Space, load_space, operating_points
from tests.hub_cache import add_snapshot, use_cache
from trainables.encoders.pretrained import SHIPPED

COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with `lab/clip` and `lab/llava`."""
    directory = tmp_path / "hub"
    add_snapshot(directory, "lab/clip", COMMIT, SHIPPED / "clip-scenes", ref="main")
    add_snapshot(directory, "lab/clip", OTHER, SHIPPED / "clip-scenes", ref="v2")
    add_snapshot(directory, "lab/llava", OTHER, SHIPPED / "llava-scenes", ref="main")
    use_cache(directory, monkeypatch)
    return directory


def space(*more: str) -> Space:
    return load_space("smoke", ["teacher.model=lab/clip", "mllms=[lab/llava]", *more])


def test_ids_become_commits_and_labels_stay(cache: Path, tmp_path: Path) -> None:
    pinned, problems = pin_revisions(space(), Store(str(tmp_path)), ask_hub=True)
    assert not problems
    assert pinned.teacher.model == f"lab/clip@{COMMIT}"
    assert [mllm.model for mllm in pinned.mllms] == [f"lab/llava@{OTHER}"]
    assert {m.label for m in pinned.measurements} == {"lab/llava"}
    assert teacher_sizes(pinned.teacher.model) == teacher_sizes("shipped:clip-scenes")


def test_the_commit_is_in_what_a_stage_records(cache: Path, tmp_path: Path) -> None:
    pinned, _ = pin_revisions(space(), Store(str(tmp_path)), ask_hub=True)
    plan = Plan(pinned, operating_points(pinned), fingerprints(pinned), None)
    specs = [job.stage.spec for job in plan.jobs.values() if job.kind == "features"]
    assert [spec["teacher"] for spec in specs] == [f"lab/clip@{COMMIT}"]


def test_a_branch_that_moves_changes_nothing_in_a_storage(cache: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    plan_only, _ = pin_revisions(space(), store, ask_hub=False)
    assert plan_only.teacher.model == f"lab/clip@{COMMIT}"
    assert not (tmp_path / "storage").exists(), "--plan writes nothing"
    pin_revisions(space(), store, ask_hub=True)
    (cache / "models--lab--clip" / "refs" / "main").write_text(OTHER)
    again, _ = pin_revisions(space(), store, ask_hub=True)
    assert again.teacher.model == f"lab/clip@{COMMIT}"
    elsewhere, _ = pin_revisions(space(), Store(str(tmp_path / "other")), ask_hub=True)
    assert elsewhere.teacher.model == f"lab/clip@{OTHER}"


def test_a_stated_revision_counts_also_in_a_variant(cache: Path, tmp_path: Path) -> None:
    variants = "variants={a: {}, b: {teacher.model: lab/clip@v2}}"
    pinned, _ = pin_revisions(space(variants), Store(str(tmp_path)), ask_hub=True)
    models = [variant.teacher.model for variant in pinned.expanded]
    assert sorted(models) == [f"lab/clip@{COMMIT}", f"lab/clip@{OTHER}"]


def test_a_space_without_models_of_the_hub_keeps_its_keys(tmp_path: Path) -> None:
    shipped = load_space("smoke")
    pinned, problems = pin_revisions(shipped, Store(str(tmp_path)), ask_hub=True)
    assert pinned is shipped
    assert not problems


def test_a_model_that_nobody_can_be_asked_about_stays(cache: Path, tmp_path: Path) -> None:
    unknown = load_space("smoke", ["teacher.model=lab/elsewhere"])
    pinned, problems = pin_revisions(unknown, Store(str(tmp_path)), ask_hub=True)
    assert pinned.teacher.model == "lab/elsewhere"
    assert not problems


def test_what_the_hub_does_not_have_is_a_mistake(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(api: HfApi, model: str, **options: object) -> str:
        error = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
        Exception.__init__(error, f"no {model}")
        raise error

    monkeypatch.setattr(HfApi, "resolve_revision", refuse)
    _, problems = pin_revisions(space(), Store(str(tmp_path)), ask_hub=True)
    assert [line.partition(":")[0] for line in problems] == [
        "teacher.model = 'lab/clip'",
        "mllms.0 = 'lab/llava'",
    ]


def test_a_damaged_or_hostile_pin_is_a_mistake(cache: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("revisions/lab%2Fclip", b"../../etc")
    _, problems = pin_revisions(space(), store, ask_hub=True)
    assert len(problems) == 1
    assert "revisions/lab%2Fclip" in problems[0]


def test_a_pickled_model_and_no_name_at_all_are_mistakes_of_the_command(tmp_path: Path) -> None:
    model = tmp_path / "pickled"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "clip"}')
    (model / "pytorch_model.bin").write_bytes(b"")
    command = [sys.executable, "-m", "orchestrator.sweep", "smoke", "--plan"]
    command += [f"--storage={tmp_path}/new", "--set"]
    done = [
        subprocess.run(
            [*command, f"teacher.model={name}"],
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
        for name in (model, "'a b/c d'")
    ]
    assert [run.returncode for run in done] == [2, 2], done
    assert "pickle" in done[0].stderr
    assert "Traceback" not in done[1].stderr
    assert "'a b/c d'" in done[1].stderr
