"""The surrogate loss: what stands in for the MLLM while a neck is trained.

    pooled --@ text weights--> logits --cross-entropy--> CE          (classes present in the image)
    pooled, tokens <--MSE--> the teacher's pooled, tokens --> L_dist
    loss = alpha CE + beta L_dist, alpha : beta progressing with the steps

*Bridging Compressed Image Latents and Multimodal Large Language Models* (ICLR 2025, arXiv
2407.19651), section 3.3 and the authors' code: the logits' image features are not normalised and
there is no logit scale.

Under autocast, too, losses are computed in fp32, the precision of validation.

Shapes: `B` images, `L` patches, `D` width, `P` joint width, `C` classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.specs.training import Phase, SurrogateSpec
from trainables.encoders.partial_encoder import Features


def phase_at(spec: SurrogateSpec, step: int, steps: int) -> Phase:
    """The phase of the progressive schedule that a step (0 .. steps - 1) falls into."""
    assert 0 <= step < steps
    return next(phase for phase in spec.phases if step < phase.until * steps)


def cross_entropy(pooled: Tensor, text_weights: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of the images' classes.

    With one class per image this is the paper's loss; with several, the target is uniform over
    them (an image without any adds nothing).

    Args:
        pooled: (B, P), not normalised.
        text_weights: (P, C), a unit vector per class.
        target: (B, C), rows add up to 1.
    """
    with torch.autocast(pooled.device.type, enabled=False):
        logits = pooled.to(text_weights.dtype) @ text_weights
        return -(target * F.log_softmax(logits, -1)).sum(-1).mean()


def distillation(
    spec: SurrogateSpec, student: Features, teacher: Features
) -> tuple[Tensor, dict[str, Tensor]]:
    """L_dist: the weighted mean squared errors of what the spec gives a weight.

    Returns:
        L_dist and its unweighted terms, `pooled` and `tokens`.
    """
    weights = {"pooled": spec.pooled, "tokens": spec.tokens}
    terms: dict[str, Tensor] = {}
    for name in (name for name, weight in weights.items() if weight):
        target = getattr(teacher, name)
        with torch.autocast(target.device.type, enabled=False):
            terms[name] = F.mse_loss(getattr(student, name).to(target.dtype), target)
    parts = [weights[name] * term for name, term in terms.items()]
    return sum(parts[1:], parts[0]), terms
