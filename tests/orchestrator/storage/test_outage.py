"""A storage that is away is waited for, and a try that it made fail ends only when it is back."""

from __future__ import annotations

import pytest

from orchestrator.storage import outage
from orchestrator.storage.outage import not_visible, patiently


def test_a_storage_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "LOOK_S", 0.0)
    answers = [OSError("away"), RuntimeError("away"), True]

    def ask() -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    assert patiently(ask)
    assert not answers


def test_what_shows_late_is_not_missing_and_the_rest_is() -> None:
    looks = {"late": 0, "never": 0}

    def is_there(name: str) -> bool:
        looks[name] += 1
        return name == "late" and looks[name] == 3

    assert not_visible(["late", "never"], is_there) == ["never"]
    assert looks["late"] == 3


def test_one_that_does_not_come_back_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "OUTAGE_S", 0.0)
    asked = []

    def ask() -> bool:
        asked.append(1)
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        patiently(ask)
    assert len(asked) == 1
