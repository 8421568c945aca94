"""What each setting makes again is exactly what is stated, in real plans."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from search_spaces.specs.benchmark import FORMATS, benchmark_spec
from tests.orchestrator.plan.effect_spaces import base, write_data
from tests.orchestrator.plan.key_effects import (
    EFFECTS,
    FORMATS_FILES,
    FORMATS_SETTINGS,
    SEARCH,
)
from tests.orchestrator.plan.made_again import all_settings, made_again, stages_of

FILES = {"annotations": "/a", "images": "/i", "questions": "/q"}


def test_every_setting_has_a_stated_effect() -> None:
    assert set(all_settings()) == EFFECTS.keys() | SEARCH | FORMATS_FILES | FORMATS_SETTINGS.keys()


def test_a_setting_makes_again_what_is_stated_and_nothing_else(tmp_path: Path) -> None:
    write_data(tmp_path)
    by_base = defaultdict(list)
    for setting, effects in EFFECTS.items():
        for effect in effects:
            by_base[effect.base].append((setting, effect))
    wrong = {}
    for name, stated in by_base.items():
        finished = stages_of(base(name, tmp_path))
        for setting, effect in stated:
            found = made_again(finished, stages_of(base(name, tmp_path, effect.override)))
            if found != effect.made_again:
                wrong[f"{name}: {setting} ({effect.override})"] = (
                    f"not stated {sorted(found - effect.made_again)}, "
                    f"not made {sorted(effect.made_again - found)}"
                )
    assert not wrong


def identity(form: str, **settings: Any) -> dict[str, Any]:
    fields = FORMATS.get(form).model_fields
    required = {n: path for n, path in FILES.items() if n in fields and fields[n].is_required()}
    return benchmark_spec({"format": form, **required, **settings}).identity


def test_a_setting_of_a_format_changes_the_samples_and_a_path_does_not() -> None:
    for path, (form, value) in FORMATS_SETTINGS.items():
        if path == "benchmarks.format":
            assert identity("pope") != identity(value)
        else:
            assert identity(form) != identity(form, **{path.rpartition(".")[2]: value}), path
    for path in FORMATS_FILES:
        form = path.split(".")[1] if path.count(".") == 2 else "pope"
        assert identity(form) == identity(form, **{path.rpartition(".")[2]: "/elsewhere"}), path
