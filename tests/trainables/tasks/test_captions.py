"""Caption metrics, against pycocoevalcap and the tokenizer and METEOR that it brings (Java)."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from trainables.tasks import TASKS
from trainables.tasks.common import caption_metrics
from trainables.tasks.common.caption_metrics import lacking
from trainables.tasks.common.caption_tokens import caption_words
from trainables.tasks.common.set_metrics import set_values

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="java is not installed")

CAPTIONS = {
    "A man's dog doesn't like it, but it's OK.": "a man 's dog does n't like it but it 's ok",
    'Two kids (boys) read "STOP" - in a park...': "two kids -lrb- boys -rrb- read stop in a park",
    "A t-shirt with #1, $5.50 and 50% off at 3:30 p.m.": (
        "a t-shirt with # 1 $ 5.50 and 50 % off at 3:30 p.m."
    ),
    "U.S. flag on St. Mary's road near J. Smith": "u.s. flag on st. mary 's road near j. smith",
    "the dogs' bowls; they're y'all's": "the dogs bowls they 're y' all 's",
    "We cannot say, I'm gonna go": "we can not say i 'm gon na go",
    "a black/white cat,and 1/2 pizza": "a black/white cat and 1/2 pizza",
    "1,000 people at 5 o'clock in the '60s": "1,000 people at 5 o'clock in the '60s",
    "AT&T, R&B & rock 'n' roll": "at&t r&b & rock 'n' roll",
    "He’s 6'2\" tall – “really”…": "he 's 6 2 tall really",
    "a cat. A dog ..on a 3-year-old's bed!!": "a cat a dog on a 3-year-old 's bed !!",
    "A clock (with a face) reads 12:05.": "a clock -lrb- with a face -rrb- reads 12:05",
    "a car parked on 5th St.": "a car parked on 5th st.",
    "Plan B. then no.5": "plan b. then no. 5",
    "A naïve painting, 'Le Café'": "a naïve painting le café",
}


@pytest.mark.parametrize("caption", CAPTIONS)
def test_captions_become_cocos_words(caption: str) -> None:
    assert caption_words(caption) == CAPTIONS[caption]


@needs_java
def test_the_words_are_those_of_the_stanford_tokenizer() -> None:
    texts = list(CAPTIONS)
    expected = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(texts)})
    assert [caption_words(text) for text in texts] == [
        " ".join(expected[i][0].split()) for i in range(len(texts))
    ]


def _drawn(n: int) -> tuple[list[str], list[list[str]]]:
    """Answers and references of words without punctuation, which every tokenizer leaves alone."""
    rng = random.Random(0)
    words = "a the man woman dog cat big large small runs running walks on in with of near street"
    vocabulary = f"{words} road car automobile and horse sitting sat at table".split()

    def sentence(low: int) -> str:
        return " ".join(rng.choice(vocabulary) for _ in range(rng.randint(low, 9)))

    meant = [[sentence(3) for _ in range(rng.randint(1, 5))] for _ in range(n)]
    said = [sentence(1) for _ in range(n)]
    # Perfect, none, and another word for the same.
    said[:4] = [meant[0][0], "", "a large dog", "the person is happy"]
    meant[2:4] = [["a big dog"], ["the person is happy"]]
    return said, meant


def _values(said: list[str], meant: list[list[str]]) -> dict[str, float]:
    references = [json.dumps({"captions": one}) for one in meant]
    found = {m: float(v.mean()) for m, v in TASKS.get("captions").score(said, references).items()}
    of_set = set_values(TASKS.get("captions"), said, references)
    assert all(one.low <= one.value <= one.high for one in of_set.values())
    return found | {m: one.value for m, one in of_set.items()}


def test_metrics_are_pycocoevalcaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # without Java, which has its own test
    said, meant = _drawn(40)
    found = _values(said, meant)
    truth, guess = dict(enumerate(meant)), {i: [s] for i, s in enumerate(said)}
    assert found["cider"] == pytest.approx(Cider().compute_score(truth, guess)[0])
    assert found["rouge_l"] == pytest.approx(Rouge().compute_score(truth, guess)[0])
    bleu = Bleu(4).compute_score(truth, guess, verbose=0)[0]
    assert [found[f"bleu{order}"] for order in (1, 2, 3, 4)] == pytest.approx(bleu)
    perfect = _values([one[0] for one in meant], meant)
    assert [perfect[m] for m in ("rouge_l", "bleu1", "bleu4")] == pytest.approx([1.0] * 3)


# What pycocoevalcap's Meteor says of `_drawn(40)`; it takes ten seconds to start.
METEOR = 0.13386687866147445
METEOR_OF_FIRST = [1.0, 0.0, 0.9142857142857143, 1.0, 0.10666666666666667, 0.0, 0.0]


@needs_java
def test_meteor_is_pycocoevalcaps() -> None:
    said, meant = _drawn(40)
    task = TASKS.get("captions")
    statistics = task.statistics(said, [json.dumps({"captions": one}) for one in meant])
    found = task.of_set(statistics)["meteor"]
    np.testing.assert_allclose(found[: len(METEOR_OF_FIRST)], METEOR_OF_FIRST)
    sums = {name: values.sum(keepdims=True) for name, values in statistics.items()}
    assert task.of_set(sums)["meteor"] == pytest.approx([METEOR])


def test_what_cannot_be_computed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert lacking() == dict.fromkeys(["meteor", "spice"], "java is not installed")
    task = TASKS.get("captions")
    names = {"cider", "rouge_l", "bleu1", "bleu2", "bleu3", "bleu4"}
    assert {m.name for m in task.metrics} == names
    references = [json.dumps({"captions": ["a dog"]})] * 2
    found = [*task.score(["a dog", ""], references), *set_values(task, ["a", "b"], references)]
    assert set(found) == names


def test_spice_needs_stanfords_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if shutil.which("java") is None:
        pytest.skip("java is not installed")
    monkeypatch.setattr(caption_metrics, "_package", lambda: tmp_path)
    file = tmp_path / "spice" / "lib" / "stanford-corenlp-3.6.0-models.jar"
    assert lacking() == {"spice": f"Stanford's models are not there ({file})"}
    file.parent.mkdir(parents=True)
    file.touch()
    assert lacking() == {}
    assert "spice" in [m.name for m in TASKS.get("captions").metrics]
