"""Train the demo's teacher, a small CLIP, on scenes made on the fly.

    scene --render, resize 112--> vision tower --CLS, projection--> <-- contrast --> text tower
                                       |                              with captions and class names
                                       +-- tokens of some layers --> dense heads: what is drawn,
                                                                     what stands in my quadrant?

The dense heads make digits learnable in an hour of CPU time; they are dropped when the model is
saved. The MLLM reads the patch tokens of the layer before the last, so one dense head sits exactly
there.

Run `python -m trainables.recipes.teacher --work DIR`; it continues from DIR/teacher.pt when that
exists, also with another number of steps, which re-shapes the rest of the schedule. The shipped
teacher is what this gives from nothing: 2,200 steps, half an hour on one to two cores.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from trainables.datasets.scenes.captions import TEMPLATES, caption
from trainables.datasets.scenes.drawing import render, render_with_ink
from trainables.datasets.scenes.sampling import sample_scene
from trainables.datasets.scenes.scene import (
    COLOURS,
    DIGITS,
    SceneSpec,
    Split,
    class_names,
    scene_rng,
)
from trainables.encoders.pretrained import preprocess
from trainables.recipes.common import (
    BOS_ID,
    EOS_ID,
    IMAGE_MEAN,
    IMAGE_SIZE,
    IMAGE_STD,
    PAD_ID,
    SpareCores,
    build_tokenizer,
    load_checkpoint,
    save_checkpoint,
    save_half,
    warmup_cosine,
)
from trainables.recipes.muon import Muon

log = logging.getLogger("teacher")
WIDTH, LAYERS, GRID = 128, 6, 8
DENSE_LAYERS = (3, 5)  # indices into hidden_states; 5 is the layer that the MLLM reads
INK_LAYER, INK = (
    2,
    7,
)  # where a head draws its patch's ink, INK x INK, so that shapes come before digits
NO_DIGIT, NO_COLOUR = len(DIGITS), len(COLOURS)


def build_teacher(vocab_size: int) -> CLIPModel:
    """A fresh CLIP: 6 x 128 vision tower on 8 x 8 patches, 2 x 128 text tower."""
    config = CLIPConfig(
        projection_dim=WIDTH,
        logit_scale_init_value=2.6592,
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "image_size": IMAGE_SIZE,
            "patch_size": IMAGE_SIZE // GRID,
            "hidden_act": "quick_gelu",
            "projection_dim": WIDTH,
        },
        text_config={
            "vocab_size": vocab_size,
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 40,
            "hidden_act": "quick_gelu",
            "projection_dim": WIDTH,
            "bos_token_id": BOS_ID,
            "eos_token_id": EOS_ID,
            "pad_token_id": PAD_ID,
        },
    )
    model = CLIPModel(config)
    with torch.no_grad():
        embeddings = model.vision_model.embeddings
        # Neighbouring patches start with similar positions, so that attention finds a glyph's
        # strokes early.
        embeddings.position_embedding.weight[1:] = 0.3 * _grid_positions(WIDTH)
    return model


def _grid_positions(width: int) -> Tensor:
    """(GRID * GRID, width) sines and cosines of the patches' rows and columns."""
    angles = torch.arange(GRID).float()[:, None] * (0.25 * 1.25 ** torch.arange(width // 4))
    axis = torch.cat((angles.sin(), angles.cos()), 1)  # (GRID, width / 2)
    rows, columns = axis[:, None].expand(-1, GRID, -1), axis[None].expand(GRID, -1, -1)
    return torch.cat((rows, columns), -1).reshape(GRID * GRID, width)


class Heads(nn.Module):
    """Auxiliary heads, trained with the teacher and dropped afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs = NO_DIGIT + 1 + NO_COLOUR + 1 + 4
        self.dense = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, self.outputs)) for _ in DENSE_LAYERS
        )
        self.ink = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, INK * INK))
        self.pooled = nn.Linear(WIDTH, 4 * self.outputs)

    def split(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., outputs) -> digit logits, colour logits, boxes."""
        parts = [NO_DIGIT + 1, NO_COLOUR + 1, 4]
        digits, colours, boxes = torch.split(values, parts, -1)
        return digits, colours, boxes

    def forward(self, hidden_states: Sequence[Tensor], pooled: Tensor) -> list[Tensor]:
        """One (B, 4 quadrants, n, outputs) per head: n = 16 tokens of the quadrant, or 1 for the
        pooled head."""
        results = []
        for head, layer in zip(self.dense, DENSE_LAYERS, strict=True):
            tokens = head(hidden_states[layer][:, 1:])
            grid = tokens.view(-1, 2, GRID // 2, 2, GRID // 2, self.outputs).transpose(2, 3)
            results.append(grid.reshape(-1, 4, GRID * GRID // 4, self.outputs))
        results.append(self.pooled(pooled).view(-1, 4, 1, self.outputs))
        return results


def targets(
    scenes: Sequence[SceneSpec], boxes: Sequence[Sequence[Sequence[int]]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Per quadrant: digit (B, 4) and colour (B, 4) classes, the last one meaning nothing; boxes (B,
    4, 4) in [0, 1]."""
    digit = torch.full((len(scenes), 4), NO_DIGIT)
    colour = torch.full((len(scenes), 4), NO_COLOUR)
    box = torch.zeros(len(scenes), 4, 4)
    for b, scene in enumerate(scenes):
        for o, corners in zip(scene.objects, boxes[b], strict=True):
            digit[b, o.position], colour[b, o.position] = o.digit, o.colour
            box[b, o.position] = torch.tensor(corners) / 128.0
    return digit, colour, box


def dense_loss(
    heads: Heads, outputs: Sequence[Tensor], truth: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """Mean over heads of digit + colour cross-entropy and box distance."""
    digit, colour, box = truth
    present = (digit != NO_DIGIT).float()
    total = torch.zeros(())
    for values in outputs:
        n = values.shape[2]
        digits, colours, boxes = heads.split(values)
        # Empty quadrants are easy and many; a lighter weight leaves the gradient to the digits.
        weight = torch.where(digit == NO_DIGIT, 0.3, 1.0)[..., None].expand(-1, -1, n)
        for logits, label in ((digits, digit), (colours, colour)):
            loss = F.cross_entropy(
                logits.flatten(0, 2), label[..., None].expand(-1, -1, n).flatten(), reduction="none"
            )
            total = total + (loss * weight.flatten()).sum() / weight.sum()
        distance = (boxes - box[:, :, None]).abs().mean(-1) * present[..., None]
        total = total + 4.0 * distance.sum() / (present.sum() * n)
    return total / len(outputs)


def ink_loss(heads: Heads, hidden_states: Sequence[Tensor], ink: Tensor) -> Tensor:
    """Cross-entropy of every patch's ink, (B, 1, S, S) in [0, 1], drawn from its token."""
    side = GRID * INK
    truth = F.interpolate(ink, size=(side, side), mode="bilinear", antialias=True).clamp(0.0, 1.0)
    truth = truth.view(-1, GRID, INK, GRID, INK).transpose(2, 3).reshape(-1, GRID * GRID, INK * INK)
    return F.binary_cross_entropy_with_logits(heads.ink(hidden_states[INK_LAYER][:, 1:]), truth)


class Texts:
    """Tokenised class names in every template."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.names = [self.encode([t.format(n) for n in class_names()]) for t in TEMPLATES]

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask, (B, T) each, padded on the right, <eos> at the end."""
        batch = self.tokenizer(list(texts), padding=True, return_tensors="pt")
        return batch["input_ids"], batch["attention_mask"]


def text_embeddings(model: CLIPModel, ids: Tensor, mask: Tensor) -> Tensor:
    """(B, T) -> (B, width), normalised."""
    pooled = model.text_model(input_ids=ids, attention_mask=mask).pooler_output
    return F.normalize(model.text_projection(pooled), dim=-1)


def language_loss(
    model: CLIPModel, images: Tensor, scenes: Sequence[SceneSpec], texts: Texts, step: int
) -> Tensor:
    """Contrast with captions (equal captions are all positives) + cross-entropy over class names.

    Args:
        images: (B, width) projected class embeddings, not normalised.
    """
    captions = [caption(s) for s in scenes]
    images = F.normalize(images, dim=-1)
    scale = model.logit_scale.exp().clamp(max=100.0)
    logits = scale * images @ text_embeddings(model, *texts.encode(captions)).T
    ids = {c: i for i, c in enumerate(dict.fromkeys(captions))}
    label = torch.tensor([ids[c] for c in captions])
    same = (label[:, None] == label[None]).float()
    same = same / same.sum(1, keepdim=True)
    contrast = 0.5 * (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same))
    names = text_embeddings(model, *texts.names[(step // 2) % len(texts.names)])
    present = torch.zeros(len(scenes), len(names))
    for row, scene in zip(present, scenes, strict=True):
        for o in scene.objects:
            row[o.class_index] = 1.0 / len(scene.objects)
    return contrast + F.cross_entropy(scale * images @ names.T, present)


def batch_scenes(seed: int, step: int, batch: int, full: bool) -> list[SceneSpec]:
    """The scenes of one training step. `full` fills all four quadrants, for more digits per
    step."""
    rngs = [scene_rng(seed, "train", step * batch + i, stream=1) for i in range(batch)]
    return [
        sample_scene(r, "train", n_objects=4 if full and i % 4 else None, augment=True)
        for i, r in enumerate(rngs)
    ]


@torch.no_grad()
def evaluate(
    model: CLIPModel, heads: Heads, texts: Texts, split: Split, n_scenes: int
) -> dict[str, float]:
    """Accuracy of the dense head at the MLLM's layer, of the pooled head, and zero-shot accuracies
    from text."""
    model.train(False)
    scenes = [sample_scene(scene_rng(0, split, i, stream=2), split) for i in range(n_scenes)]
    images, boxes = render(scenes)
    pixels = preprocess(images, IMAGE_SIZE, IMAGE_MEAN, IMAGE_STD)
    vision = [
        model.vision_model(pixel_values=p, output_hidden_states=True)
        for p in torch.split(pixels, 64)
    ]
    hidden = [torch.cat([v.hidden_states[i] for v in vision]) for i in range(LAYERS + 1)]
    pooled = torch.cat([v.pooler_output for v in vision])
    outputs = heads(hidden, pooled)
    digit, colour, box = targets(scenes, boxes)
    here = digit != NO_DIGIT
    result = {}
    for name, values in (("tokens", outputs[1]), ("pooled", outputs[2])):
        digits, colours, guess = heads.split(values.mean(2))
        result[f"{name}/digit"] = (digits.argmax(-1) == digit)[here].float().mean().item()
        result[f"{name}/colour"] = (colours.argmax(-1) == colour)[here].float().mean().item()
        result[f"{name}/empty"] = (digits.argmax(-1) == digit)[~here].float().mean().item()
        result[f"{name}/box_error_px"] = 128 * (guess - box).abs().mean(-1)[here].mean().item()
    embedded = F.normalize(model.visual_projection(pooled), dim=-1)
    captions = list(dict.fromkeys(caption(s) for s in scenes))
    best = (embedded @ text_embeddings(model, *texts.encode(captions)).T).argmax(1).tolist()
    result["caption_retrieval"] = (
        sum(captions[b] == caption(s) for b, s in zip(best, scenes, strict=True)) / n_scenes
    )
    names = sum(text_embeddings(model, *t) for t in texts.names)
    assert isinstance(names, Tensor)
    best = (embedded @ F.normalize(names, dim=-1).T).argmax(1).tolist()
    hits = [b in [o.class_index for o in s.objects] for b, s in zip(best, scenes, strict=True)]
    result["class_top1"] = sum(hits) / n_scenes
    model.train()
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="directory of checkpoints and log")
    parser.add_argument(
        "--out", type=Path, help="where the finished teacher goes (default: WORK/clip-scenes)"
    )
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as others leave free")
    parser.add_argument("--muon", type=int, default=1, help="0: AdamW everywhere")
    parser.add_argument(
        "--full-until", type=float, default=0.5, help="share of the steps with four digits a scene"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    cores = SpareCores(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = build_tokenizer(end=True)
    texts = Texts(tokenizer)
    model, heads = build_teacher(len(tokenizer)), Heads()
    parameters = [*model.parameters(), *heads.parameters()]
    hidden = (
        [p for p in model.vision_model.encoder.parameters() if p.ndim == 2] if options.muon else []
    )
    known = {id(p) for p in hidden}
    rest = [p for p in parameters if id(p) not in known]
    decay, plain = [p for p in rest if p.ndim >= 2], [p for p in rest if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.98))
    ]
    if hidden:
        optimisers.append(Muon(hidden, lr=options.lr, weight_decay=0.05))
    checkpoint = options.work / "teacher.pt"
    step, spent = 0, 0.0
    if (state := load_checkpoint(checkpoint)) is not None:
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        step, spent = state["step"], state["spent"]
        log.info("continuing at step %d", step)
    started = time.monotonic() - spent
    running = 0.0
    model.train()
    while step < options.steps:
        if step % 5 == 0:
            torch.set_num_threads(cores.threads())
        rate = options.lr * warmup_cosine(step, options.steps, 200)
        for group in (g for o in optimisers for g in o.param_groups):
            group["lr"] = rate
        scenes = batch_scenes(
            options.seed, step, options.batch, step < options.full_until * options.steps
        )
        images, boxes, ink = render_with_ink(scenes)
        pixels = preprocess(images, IMAGE_SIZE, IMAGE_MEAN, IMAGE_STD)
        vision = model.vision_model(pixel_values=pixels, output_hidden_states=True)
        supervised = dense_loss(
            heads, heads(vision.hidden_states, vision.pooler_output), targets(scenes, boxes)
        )
        drawn = ink_loss(heads, vision.hidden_states, ink)
        loss = supervised + 2.0 * drawn
        # Every second step: the text tower costs as much as a layer or two of the vision tower.
        if step % 2 == 0:
            loss = loss + 0.5 * language_loss(
                model, model.visual_projection(vision.pooler_output), scenes, texts, step
            )
        for parameter in parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimiser in optimisers:
            optimiser.step()
        step += 1
        running += supervised.item()
        if step % 25 == 0:
            seconds = time.monotonic() - started
            log.info(
                "step %d dense %.3f ink %.3f total %.3f  %.2f s/step, %d threads",
                step,
                running / 25,
                drawn.item(),
                loss.item(),
                seconds / step,
                torch.get_num_threads(),
            )
            running = 0.0
        if step % 200 == 0 or step == options.steps:
            state = {
                "model": model.state_dict(),
                "heads": heads.state_dict(),
                "optimisers": [o.state_dict() for o in optimisers],
            }
            save_checkpoint(
                checkpoint, {**state, "step": step, "spent": time.monotonic() - started}
            )
            accuracy = evaluate(model, heads, texts, "val", 128)
            log.info("val %s", {k: round(v, 3) for k, v in accuracy.items()})
    accuracy = {"test_scenes": 400.0, **evaluate(model, heads, texts, "test", 400)}
    log.info("test %s", accuracy)
    save_half(model, tokenizer, options.out or options.work / "clip-scenes", accuracy)


if __name__ == "__main__":
    main()
