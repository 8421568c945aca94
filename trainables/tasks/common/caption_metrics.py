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

from trainables.tasks.common.caption_tokens import caption_words
from trainables.tasks.common.task import Metric, Scores, Values, of_references, ratio

CIDER = Metric("cider", "CIDEr", 0.0, 10.0, True)
ORDERS = (1, 2, 3, 4)
# pycocoevalcap adds these to counts, so that none is 0.
_TINY, _SMALL = 1e-15, 1e-9
# METEOR 1.5 for English (Denkowski and Lavie, WMT 2014): weights of exact, stem, synonym and
# paraphrase matches; of content words against function words; of the harmonic mean; the penalty.
_MATCH_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
_CONTENT, _ALPHA, _GAMMA, _BETA = 0.75, 0.85, 0.6, 0.2
_ALIGNMENT = 23
"""Numbers that METEOR says of a pair: lengths and function words of both, four matches of each of
four kinds, chunks, matched words of both."""


def lacking() -> dict[str, str]:
    """The metrics that cannot be computed on this machine, and why."""
    if shutil.which("java") is None:
        return dict.fromkeys(("meteor", "spice"), "java is not installed")
    models = _package() / "spice" / "lib" / "stanford-corenlp-3.6.0-models.jar"
    if not models.exists():
        # pycocoevalcap would download them, in the middle of an evaluation.
        return {"spice": f"Stanford's models are not there ({models})"}
    return {}


def cider(captions: Sequence[str], truths: Sequence[Sequence[str]]) -> Values:
    """CIDEr-D of every caption, (N,), of words with spaces between; 10 is perfect.

    Args:
        captions: N captions.
        truths: the references of each.
    """
    if not captions:
        return np.zeros(0)
    # Imported late: pycocoevalcap pulls in dependencies that other tasks do not need.
    from pycocoevalcap.cider.cider import Cider

    references = {i: list(r) for i, r in enumerate(truths)}
    _, scores = Cider().compute_score(references, {i: [s] for i, s in enumerate(captions)})
    return np.asarray(scores, np.float64)


def tokenized(
    answers: Sequence[str], references: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Answered captions and the captions of their references, words with spaces between."""
    truths = [[caption_words(c) for c in cs] for cs in of_references(references, "captions")]
    captions = [caption_words(answer) for answer, _ in zip(answers, truths, strict=True)]
    return captions, truths


def rouge(captions: Sequence[str], truths: Sequence[Sequence[str]]) -> Values:
    """ROUGE-L of every caption, (N,)."""
    from pycocoevalcap.rouge.rouge import Rouge

    scorer = Rouge()
    scores = [scorer.calc_score([s], r) for s, r in zip(captions, truths, strict=True)]
    return np.array(scores, np.float64)


def ngrams(captions: Sequence[str], truths: Sequence[Sequence[str]]) -> Scores:
    """Per caption its words, those of the closest reference, its n-grams and the right ones."""
    from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test

    cooked = [cook_test(s, cook_refs(r), "closest") for s, r in zip(captions, truths, strict=True)]
    statistics = {
        "words": [c["testlen"] for c in cooked],
        "closest": [c["reflen"] for c in cooked],
        **{f"guess{n}": [c["guess"][n - 1] for c in cooked] for n in ORDERS},
        **{f"right{n}": [c["correct"][n - 1] for c in cooked] for n in ORDERS},
    }
    return {name: np.array(values, np.float64) for name, values in statistics.items()}


def bleu(sums: Mapping[str, Values]) -> Scores:
    """BLEU-1 to BLEU-4 of R sets from the sums of `ngrams`, each (R,)."""
    length = (sums["words"] + _TINY) / (sums["closest"] + _SMALL)
    brevity = np.exp(np.minimum(0.0, 1.0 - 1.0 / length))
    product, scores = np.ones_like(length), {}
    for n in ORDERS:
        product = product * (sums[f"right{n}"] + _TINY) / (sums[f"guess{n}"] + _SMALL)
        scores[f"bleu{n}"] = np.minimum(product ** (1 / n) * brevity, 1.0)
    return scores


def alignments(captions: Sequence[str], truths: Sequence[Sequence[str]]) -> Scores:
    """METEOR's alignment of every caption with the reference that suits it best."""
    if not captions:
        return {f"meteor{i}": np.zeros(0) for i in range(_ALIGNMENT)}
    lines = [" ||| ".join(["SCORE", *r, s]) for s, r in zip(captions, truths, strict=True)]
    jar = _package() / "meteor" / "meteor-1.5.jar"
    command = ["java", "-jar", "-Xmx2G", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    process = subprocess.run(
        command, input="\n".join(lines) + "\n", capture_output=True, encoding="utf-8", check=True
    )
    table = np.array([line.split() for line in process.stdout.splitlines()], np.float64)
    assert table.shape == (len(captions), _ALIGNMENT), process.stderr
    # A perfect caption's only chunk is no fragment.
    perfect = (table[:, 20] == 1) & (table[:, :2] == table[:, 21:]).all(1)
    table[perfect, 20] = 0.0
    return {f"meteor{i}": table[:, i] for i in range(_ALIGNMENT)}


def meteor(sums: Mapping[str, Values]) -> Values:
    """METEOR of R sets from the sums of `alignments`, (R,)."""
    table = np.stack([sums[f"meteor{i}"] for i in range(_ALIGNMENT)])
    length, truth_length, function, truth_function = table[:4]
    matched_content, truth_matched_content, matched_function, truth_matched_function = np.einsum(
        "k,kmr->mr", _MATCH_WEIGHTS, table[4:20].reshape(4, 4, -1)
    )
    weight = 1 - _CONTENT
    precision = ratio(
        _CONTENT * matched_content + weight * matched_function,
        _CONTENT * (length - function) + weight * function,
    )
    recall = ratio(
        _CONTENT * truth_matched_content + weight * truth_matched_function,
        _CONTENT * (truth_length - truth_function) + weight * truth_function,
    )
    mean = ratio(precision * recall, _ALPHA * precision + (1 - _ALPHA) * recall)
    return mean * (1 - _GAMMA * ratio(2 * table[20], table[21] + table[22]) ** _BETA)


def spice(captions: Sequence[str], truths: Sequence[Sequence[str]]) -> Values:
    """SPICE of every caption, (N,)."""
    if not captions:
        return np.zeros(0)
    from pycocoevalcap.spice.spice import Spice

    references = {i: list(r) for i, r in enumerate(truths)}
    _, scores = Spice().compute_score(references, {i: [s] for i, s in enumerate(captions)})
    return np.nan_to_num([score["All"]["f"] for score in scores])


def _package() -> Path:
    spec = find_spec("pycocoevalcap")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))
