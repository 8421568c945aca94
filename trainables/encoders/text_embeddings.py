"""Text embeddings of class names: what the cross-entropy and classification compare with.

    class names x templates --> tokenizer --> text tower --> (P) each, normalised
                            --> mean over templates, normalised again --> text weights (P, C)

CLIP reads a text off at its end token. SigLIP reads it off at the last of a fixed number of
positions, padding included and attended to, and knows lower-case texts only.

Shapes: `B` texts, `P` width of the joint space, `C` classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer

from search_spaces.facts.texts import read_class_names, read_templates
from search_spaces.specs.space import Space
from trainables.encoders.load import load_tower
from trainables.encoders.pretrained import load_pretrained
from trainables.encoders.tower import Tower


def write_text_weights(
    space: Space, world: Path, out: Path, device: torch.device | str = "cpu"
) -> None:
    """Write the class names' text weights to the file `out`: `weights`, (P, C) float32.

    Raises:
        ValueError: the teacher has no text tower, or there are no names, or not as many as classes.
    """
    classes = json.loads((world / "classes.json").read_text(encoding="utf-8"))
    names, surrogate = classes["names"], space.surrogate
    if not names:
        raise ValueError(f"{world / 'classes.json'} names no classes")
    if surrogate.classes is not None:
        class_names = read_class_names(surrogate.classes)
        if len(class_names) != len(names):
            raise ValueError(
                f"surrogate.classes = {surrogate.classes!r}: {len(class_names)} names "
                f"for the data set's {len(names)} classes"
            )
        names = class_names
    tower = load_tower(space.teacher.model)
    if not tower.sizes.text:
        raise ValueError(
            f"teacher.model = {space.teacher.model!r} has no text tower: set ce to 0 in every phase"
        )
    tower.model.to(device)
    tokenizer = load_pretrained(AutoTokenizer, space.teacher.model)
    templates = read_templates(surrogate.templates) or classes["templates"]
    weights = text_weights(tower, tokenizer, names, templates).cpu()
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".tmp")
    save_file({"weights": weights.contiguous()}, temporary)
    temporary.replace(out)


def read_text_weights(directory: Path) -> Tensor:
    """The text weights, (P, C), that `write_text_weights` wrote to `text.safetensors` there."""
    return load_file(directory / "text.safetensors")["weights"]


@torch.no_grad()
def text_weights(tower: Tower, tokenizer: Any, names: list[str], templates: list[str]) -> Tensor:
    """A unit vector per class: the mean over templates of its normalised text embeddings.

    Args:
        names: C class names.
        templates: texts with one `{}` where the name goes.

    Returns:
        (P, C).
    """
    embed = _embed_clip if tower.sizes.class_token else _embed_siglip
    weights = []
    for name in names:
        embedded = embed(tower.model, tokenizer, [t.replace("{}", name) for t in templates])
        mean = F.normalize(embedded, dim=-1).mean(0)
        weights.append(mean / mean.norm())
    return torch.stack(weights, 1)


def _embed_clip(clip: Any, tokenizer: Any, texts: list[str]) -> Tensor:
    """(B, P): the text tower's projected embedding at the end token of each text."""
    end = tokenizer.eos_token_id
    rows = [list(tokenizer(text)["input_ids"]) for text in texts]
    # CLIP reads a text off at its end token; not every tokenizer puts it there by itself.
    rows = [row if row[-1] == end else [*row, end] for row in rows]
    length = max(map(len, rows))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    device = clip.text_projection.weight.device
    ids = torch.tensor([row + [pad] * (length - len(row)) for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    mask = (torch.arange(length, device=device) < lengths[:, None]).long()
    pooled = clip.text_model(input_ids=ids, attention_mask=mask).pooler_output
    projected: Tensor = clip.text_projection(pooled)
    return projected


def _embed_siglip(siglip: Any, tokenizer: Any, texts: list[str]) -> Tensor:
    """(B, P): the text tower's embedding, of texts filled up to the length it was trained with."""
    encoded = tokenizer(
        [text.lower() for text in texts],
        padding="max_length",
        max_length=siglip.config.text_config.max_position_embeddings,
        truncation=True,
        return_tensors="pt",
    )
    ids = encoded["input_ids"].to(siglip.text_model.head.weight.device)
    embedded: Tensor = siglip.text_model(input_ids=ids).pooler_output
    return embedded
