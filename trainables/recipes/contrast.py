"""Images against texts: the contrastive loss of the teachers' recipes, and accuracies from texts.

Shapes: `B` scenes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, PreTrainedTokenizerFast

Classes = Sequence[Sequence[int]]
"""Of each scene the classes that are in it."""


class Texts:
    """Tokenised class names in every template.

    Args:
        tokenizer: ends its texts with <eos>.
        names, templates: of a world.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, names: Sequence[str], templates: Sequence[str]
    ) -> None:
        self.tokenizer = tokenizer
        self.names = [self.encode([t.format(n) for n in names]) for t in templates]

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask, (B, T) each, padded on the right, <eos> at the end."""
        batch = self.tokenizer(list(texts), padding=True, return_tensors="pt")
        return batch["input_ids"], batch["attention_mask"]


def text_embeddings(model: CLIPModel, ids: Tensor, mask: Tensor) -> Tensor:
    """(B, T) -> (B, width), normalised."""
    pooled = model.text_model(input_ids=ids, attention_mask=mask).pooler_output
    return F.normalize(model.text_projection(pooled), dim=-1)


def language_loss(
    model: CLIPModel,
    images: Tensor,
    captions: Sequence[str],
    classes: Classes,
    texts: Texts,
    step: int,
) -> Tensor:
    """Contrast with captions (equal captions are all positives) + cross-entropy over class names.

    Args:
        images: (B, width) projected class embeddings, not normalised.
        captions, classes: of the B scenes.
    """
    images = F.normalize(images, dim=-1)
    scale = model.logit_scale.exp().clamp(max=100.0)
    logits = scale * images @ text_embeddings(model, *texts.encode(captions)).T
    ids = {c: i for i, c in enumerate(dict.fromkeys(captions))}
    label = torch.tensor([ids[c] for c in captions])
    same = (label[:, None] == label[None]).float()
    same = same / same.sum(1, keepdim=True)
    contrast = 0.5 * (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same))
    names = text_embeddings(model, *texts.names[(step // 2) % len(texts.names)])
    present = torch.zeros(len(images), len(names))
    for row, here in zip(present, classes, strict=True):
        for number in here:
            row[number] = 1.0 / len(here)
    return contrast + F.cross_entropy(scale * images @ names.T, present)


def text_accuracy(
    model: CLIPModel, images: Tensor, captions: Sequence[str], classes: Classes, texts: Texts
) -> dict[str, float]:
    """Zero-shot accuracies: the right caption among all, and a right class first.

    Args:
        images: (B, width) projected class embeddings, not normalised.
        captions, classes: of the B scenes.
    """
    embedded = F.normalize(images, dim=-1)
    known = list(dict.fromkeys(captions))
    best = (embedded @ text_embeddings(model, *texts.encode(known)).T).argmax(1).tolist()
    retrieved = sum(known[b] == c for b, c in zip(best, captions, strict=True))
    names = sum(text_embeddings(model, *t) for t in texts.names)
    assert isinstance(names, Tensor)
    best = (embedded @ F.normalize(names, dim=-1).T).argmax(1).tolist()
    hits = sum(b in here for b, here in zip(best, classes, strict=True))
    return {
        "caption_retrieval": retrieved / len(captions),
        "class_top1": hits / len(captions),
    }
