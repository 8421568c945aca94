"""What the formats of multiple choice share: their settings, letters and checks."""

from __future__ import annotations

from string import ascii_uppercase
from typing import ClassVar, Literal

from trainables.datasets.benchmarks.items import Mistakes, SplitBenchmark

LETTERS = ascii_uppercase[:8]


class MultipleChoice(SplitBenchmark):
    """Settings of multiple choice."""

    prompt_fields: ClassVar[tuple[str, ...]] = ("question", "options")
    likelihood_prompt: ClassVar[str]
    """The prompt's template where options are compared by likelihood."""

    split: str | None = None
    """Which of the splits (of `seed_bench`: a type of question) is used; null: all."""
    scoring: Literal["letter", "likelihood"] = "letter"
    """The letter that is answered, or the likeliest of the options' texts."""

    @property
    def task(self) -> str:
        """The task in `trainables.tasks` that scores it."""
        return "choice_likelihood" if self.scoring == "likelihood" else self.default_task

    def _default_template(self) -> str:
        return self.likelihood_prompt if self.scoring == "likelihood" else self.default_prompt


def check_choices(choices: dict[str, str], answer: str, where: object, mistakes: Mistakes) -> None:
    """Note a question without two choices, or whose answer is none of them."""
    if len(choices) < 2:
        mistakes.add("fewer than two choices", where)
    elif answer not in choices:
        mistakes.add("answer is none of the choices", f"{where}: {answer} of {', '.join(choices)}")


def listed(choices: dict[str, str]) -> str:
    """The choices as lines of a prompt."""
    return "\n".join(f"{letter}. {text}" for letter, text in choices.items())
