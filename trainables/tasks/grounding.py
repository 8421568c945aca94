"""Referring expressions: is the answered box right?"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from trainables.tasks.common.box_formats import parse_box
from trainables.tasks.common.task import Scores, Task, fraction


class Grounding(Task):
    """Referring expression comprehension: is the IoU with the reference at least 0.5?"""

    metrics = (fraction("accuracy@0.5"),)
    primary = "accuracy@0.5"
    max_new_tokens = 64

    def score(self, answers: Sequence[str], references: Sequence[str]) -> Scores:
        """References: {"box": [x0, y0, x1, y1] pixels, "size": side of the image in pixels,
        "format": how the answer writes boxes, `loc` if absent}."""
        # Imported late, so that reading metric names does not cost importing torch.
        import torch
        from torchvision.ops import box_iou

        right = []
        for answer, reference in zip(answers, references, strict=True):
            truth = json.loads(reference)
            guess = parse_box(answer, float(truth["size"]), truth.get("format", "loc"))
            if guess is None:
                right.append(0.0)
                continue
            iou = box_iou(torch.tensor([guess]), torch.tensor([truth["box"]], dtype=torch.float32))
            right.append(float(iou.item() >= 0.5))
        return {"accuracy@0.5": np.array(right, np.float64)}


TASK = Grounding()
