"""Captions with several references each, as COCO's evaluation scores them (pycocoevalcap)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainables.tasks.common import caption_metrics as coco
from trainables.tasks.common.task import Metric, Scores, Task, Values, fraction


class Captions(Task):
    """Describe an image: how like the references is it?"""

    primary = "cider"
    max_new_tokens = 40

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those that can be computed on this machine."""
        return (
            coco.CIDER,
            fraction("rouge_l"),
            *(fraction(f"bleu{order}", of_set=True) for order in coco.ORDERS),
            *([] if "meteor" in coco.lacking() else [fraction("meteor", of_set=True)]),
            *([] if "spice" in coco.lacking() else [fraction("spice")]),
        )

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"captions": [str]}. Score a whole set at once, for the sake of CIDEr."""
        captions, truths = coco.tokenized(answers, references)
        scores = {"cider": coco.cider(captions, truths), "rouge_l": coco.rouge(captions, truths)}
        return (
            scores
            if "spice" in coco.lacking()
            else {**scores, "spice": coco.spice(captions, truths)}
        )

    def statistics(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """Lengths and n-gram counts of BLEU, and METEOR's alignments."""
        captions, truths = coco.tokenized(answers, references)
        statistics = coco.ngrams(captions, truths)
        return (
            statistics
            if "meteor" in coco.lacking()
            else {**statistics, **coco.alignments(captions, truths)}
        )

    def of_set(self, sums: Mapping[str, Values]) -> Scores:
        """The metrics of R sets, each (R,)."""
        scores = coco.bleu(sums)
        return {**scores, "meteor": coco.meteor(sums)} if "meteor0" in sums else scores


TASK = Captions()
