"""Captions with several references each, as COCO's evaluation scores them (pycocoevalcap).

| metric       | of                          | computed by                                       |
|--------------|-----------------------------|---------------------------------------------------|
| cider        | a caption, mean             | pycocoevalcap; words weigh by the set's references |
| rouge_l      | a caption, mean             | pycocoevalcap                                     |
| bleu1..bleu4 | the set                     | pycocoevalcap's n-gram counts, summed             |
| meteor       | the set                     | the alignments of METEOR 1.5 (Java), summed       |
| spice        | a caption, mean             | SPICE 1.0 (Java, and Stanford's models)           |

The last two are absent where what they need is (`lacking` says what).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from trainables.tasks.task import Metric, Scores, Values, fraction, of_references, ratio
from trainables.tasks.tokens import caption_words

CIDER = Metric("cider", "CIDEr", 0.0, 10.0, True)
_ORDERS = (1, 2, 3, 4)
# pycocoevalcap adds these to counts, so that none is 0.
_TINY, _SMALL = 1e-15, 1e-9
# METEOR 1.5 for English (Denkowski and Lavie, WMT 2014): weights of exact, stem, synonym and
# paraphrase matches; of content words against function words; of the harmonic mean; the penalty.
_MATCH_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
_CONTENT, _ALPHA, _GAMMA, _BETA = 0.75, 0.85, 0.6, 0.2
_ALIGNMENT = 23
"""Numbers that METEOR says of a pair: lengths and function words of both, four matches of each of
four kinds, chunks, matched words of both."""


class Captions:
    """Describe an image: how like the references is it?"""

    name = "captions"
    primary = "cider"
    chance: float | None = None
    max_new_tokens = 40
    by_likelihood = False

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those that can be computed on this machine."""
        return (
            CIDER,
            fraction("rouge_l"),
            *(fraction(f"bleu{order}", of_set=True) for order in _ORDERS),
            *([] if "meteor" in lacking() else [fraction("meteor", of_set=True)]),
            *([] if "spice" in lacking() else [fraction("spice")]),
        )

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"captions": [str]}. Score a whole set at once, for the sake of CIDEr."""
        said, meant = _tokenized(answers, references)
        scores = {"cider": cider(said, meant), "rouge_l": _rouge(said, meant)}
        return scores if "spice" in lacking() else {**scores, "spice": _spice(said, meant)}

    def statistics(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """Lengths and n-gram counts of BLEU, and METEOR's alignments."""
        said, meant = _tokenized(answers, references)
        found = _ngrams(said, meant)
        return found if "meteor" in lacking() else {**found, **_alignments(said, meant)}

    def of_set(self, sums: Mapping[str, Values]) -> Scores:
        """See `Task`."""
        scores = _bleu(sums)
        return {**scores, "meteor": _meteor(sums)} if "meteor0" in sums else scores


def lacking() -> dict[str, str]:
    """The metrics that cannot be computed on this machine, and why."""
    if shutil.which("java") is None:
        return dict.fromkeys(("meteor", "spice"), "java is not installed")
    models = _package() / "spice" / "lib" / "stanford-corenlp-3.6.0-models.jar"
    if not models.exists():
        # pycocoevalcap would download them, in the middle of an evaluation.
        return {"spice": f"Stanford's models are not there ({models})"}
    return {}


def cider(said: Sequence[str], meant: Sequence[Sequence[str]]) -> Values:
    """CIDEr-D of every caption, (N,), of words with spaces between; 10 is perfect.

    Args:
        said: N captions.
        meant: the references of each.
    """
    if not said:
        return np.zeros(0)
    # Imported late: pycocoevalcap pulls in dependencies that other tasks do not need.
    from pycocoevalcap.cider.cider import Cider

    references = {i: list(r) for i, r in enumerate(meant)}
    _, scores = Cider().compute_score(references, {i: [s] for i, s in enumerate(said)})
    return np.asarray(scores, np.float64)


def _tokenized(
    answers: Sequence[str], references: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    meant = [[caption_words(c) for c in cs] for cs in of_references(references, "captions")]
    said = [caption_words(answer) for answer, _ in zip(answers, meant, strict=True)]
    return said, meant


def _rouge(said: Sequence[str], meant: Sequence[Sequence[str]]) -> Values:
    from pycocoevalcap.rouge.rouge import Rouge

    rouge = Rouge()
    scores = [rouge.calc_score([s], r) for s, r in zip(said, meant, strict=True)]
    return np.array(scores, np.float64)


def _ngrams(said: Sequence[str], meant: Sequence[Sequence[str]]) -> Scores:
    """Words said, words of the closest reference, n-grams said and those that are right."""
    from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test

    cooked = [cook_test(s, cook_refs(r), "closest") for s, r in zip(said, meant, strict=True)]
    found = {
        "said": [c["testlen"] for c in cooked],
        "closest": [c["reflen"] for c in cooked],
        **{f"guess{n}": [c["guess"][n - 1] for c in cooked] for n in _ORDERS},
        **{f"right{n}": [c["correct"][n - 1] for c in cooked] for n in _ORDERS},
    }
    return {name: np.array(values, np.float64) for name, values in found.items()}


def _bleu(sums: Mapping[str, Values]) -> Scores:
    length = (sums["said"] + _TINY) / (sums["closest"] + _SMALL)
    brevity = np.exp(np.minimum(0.0, 1.0 - 1.0 / length))
    product, scores = np.ones_like(length), {}
    for n in _ORDERS:
        product = product * (sums[f"right{n}"] + _TINY) / (sums[f"guess{n}"] + _SMALL)
        scores[f"bleu{n}"] = np.minimum(product ** (1 / n) * brevity, 1.0)
    return scores


def _alignments(said: Sequence[str], meant: Sequence[Sequence[str]]) -> Scores:
    """METEOR's alignment of every caption with the reference that suits it best."""
    if not said:
        return {f"meteor{i}": np.zeros(0) for i in range(_ALIGNMENT)}
    lines = [" ||| ".join(["SCORE", *r, s]) for s, r in zip(said, meant, strict=True)]
    jar = _package() / "meteor" / "meteor-1.5.jar"
    command = ["java", "-jar", "-Xmx2G", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    done = subprocess.run(
        command, input="\n".join(lines) + "\n", capture_output=True, encoding="utf-8", check=True
    )
    table = np.array([line.split() for line in done.stdout.splitlines()], np.float64)
    assert table.shape == (len(said), _ALIGNMENT), done.stderr
    # A perfect caption's only chunk is no fragment.
    perfect = (table[:, 20] == 1) & (table[:, :2] == table[:, 21:]).all(1)
    table[perfect, 20] = 0.0
    return {f"meteor{i}": table[:, i] for i in range(_ALIGNMENT)}


def _meteor(sums: Mapping[str, Values]) -> Values:
    table = np.stack([sums[f"meteor{i}"] for i in range(_ALIGNMENT)])
    (said, meant, said_function, meant_function), kinds = table[:4], table[4:20].reshape(4, 4, -1)
    content_said, content_meant, function_said, function_meant = np.einsum(
        "k,kmr->mr", _MATCH_WEIGHTS, kinds
    )
    other = 1 - _CONTENT
    precision = ratio(
        _CONTENT * content_said + other * function_said,
        _CONTENT * (said - said_function) + other * said_function,
    )
    recall = ratio(
        _CONTENT * content_meant + other * function_meant,
        _CONTENT * (meant - meant_function) + other * meant_function,
    )
    mean = ratio(precision * recall, _ALPHA * precision + (1 - _ALPHA) * recall)
    return mean * (1 - _GAMMA * ratio(2 * table[20], table[21] + table[22]) ** _BETA)


def _spice(said: Sequence[str], meant: Sequence[Sequence[str]]) -> Values:
    if not said:
        return np.zeros(0)
    from pycocoevalcap.spice.spice import Spice

    references = {i: list(r) for i, r in enumerate(meant)}
    _, scores = Spice().compute_score(references, {i: [s] for i, s in enumerate(said)})
    return np.nan_to_num([one["All"]["f"] for one in scores])


def _package() -> Path:
    spec = find_spec("pycocoevalcap")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))
