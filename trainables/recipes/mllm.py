"""Train the demo's MLLM: a small Llama that reads the frozen teacher, on uncompressed train scenes.

    scene --teacher, once--> tokens of the layer before the last --projector--> image positions
    [<bos> image][caption turn][question turn][where turn] ...   one image, many turns
    [<bos> image class A image class C image class A ...]        few-shot, in context

A turn sees the image and itself, never another turn, and its positions start behind the image: it
is the separate prompt it will be at test time, without paying for the image each time. The loss is
on answers only; in few-shot sequences on every label that an earlier image gives away.

Run `python -m trainables.recipes.mllm --work DIR --teacher NAME`; it continues from DIR/mllm.pt
when that exists. The shipped MLLM is what this gives from nothing: 1,600 steps, 40 minutes on one
busy core. Being told where to look, and one reading of colour and digit for image, question and
label, are what few-shot answers needed: in an earlier run each took effect within 200 steps.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    CLIPModel,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from trainables.datasets.scenes.captions import LABELS
from trainables.datasets.scenes.drawing import render
from trainables.datasets.scenes.samples import SceneSample
from trainables.datasets.scenes.sampling import sample_scene
from trainables.datasets.scenes.scene import (
    COLOUR_NAMES,
    DIGITS,
    DrawnScene,
    SceneSpec,
    class_names,
    scene_rng,
)
from trainables.datasets.scenes.write import write_world
from trainables.encoders.load import load_tower
from trainables.encoders.pretrained import Preprocessing, preprocess
from trainables.mllms import Mllm
from trainables.recipes.common import (
    BOS_ID,
    EOS_ID,
    IMAGE_ID,
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
from trainables.recipes.evaluate import uncompressed_accuracy
from trainables.recipes.muon import Muon
from trainables.tasks import captioning, fewshot, rec, scene_tasks, vqa

log = logging.getLogger("mllm")
WIDTH, LAYERS, LAYER_READ = 128, 5, -2
PATCHES = 64
# Few-shot needs three things in turn: see what the image shows, carry that to the label behind it,
# find the label that carries the same. These text layers are told when to do which.
READ_AT, COPY_AT = 2, 3
IGNORE = -100


def build_mllm(teacher: CLIPModel, vocab_size: int) -> LlavaForConditionalGeneration:
    """A fresh LLaVA on the teacher's vision tower; the tower is frozen."""
    config = LlavaConfig(
        vision_config=teacher.config.vision_config,
        text_config={
            "model_type": "llama",
            "vocab_size": vocab_size,
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 2048,
            "bos_token_id": BOS_ID,
            "eos_token_id": EOS_ID,
            "pad_token_id": PAD_ID,
        },
        image_token_index=IMAGE_ID,
        image_seq_length=PATCHES,
        vision_feature_layer=LAYER_READ,
        vision_feature_select_strategy="default",
    )
    model = LlavaForConditionalGeneration(config)
    tower: Any = model.model.vision_tower
    weights = teacher.vision_model.state_dict()
    inner = tower.vision_model if hasattr(tower, "vision_model") else tower
    inner.load_state_dict(weights)
    tower.requires_grad_(False)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=BOS_ID, eos_token_id=EOS_ID, pad_token_id=PAD_ID, do_sample=False
    )
    return model


@dataclass
class Pool:
    """Train scenes with the teacher's tokens, computed once.

    Attributes:
        tokens: (n, 64, tower width), half precision.
    """

    scenes: list[SceneSpec]
    boxes: list[list[list[int]]]
    tokens: Tensor


@torch.no_grad()
def make_pool(teacher: CLIPModel, scenes: list[SceneSpec], cache: Path) -> Pool:
    """Render scenes and run the teacher on them, or read what an earlier run left in `cache`."""
    if (state := load_checkpoint(cache)) is not None and len(state["boxes"]) == len(scenes):
        return Pool(scenes, state["boxes"], state["tokens"])
    tokens, boxes = [], []
    for start in range(0, len(scenes), 64):
        images, corners = render(scenes[start : start + 64])
        pixels = preprocess(images, IMAGE_SIZE, IMAGE_MEAN, IMAGE_STD)
        hidden = teacher.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
        tokens.append(hidden[LAYER_READ][:, 1:].half())
        boxes += corners
    pool = Pool(scenes, boxes, torch.cat(tokens))
    save_checkpoint(cache, {"boxes": pool.boxes, "tokens": pool.tokens})
    return pool


@dataclass
class Batch:
    """Packed sequences. Shapes: B sequences, L positions.

    Attributes:
        ids: (B, L); IMAGE_ID where an image token goes.
        images: (number of image positions, tower width), in the order of the positions.
        positions: (B, L).
        mask: (B, 1, L, L), True where the row may look at the column.
        labels: (B, L); the token that each position must predict, or IGNORE.
        classes: (B, L); few-shot: class index of the image that the position speaks of, or IGNORE.
        quadrants: (B, L); scenes: the quadrant that an answer is to be read from, or IGNORE.
        colours, digits: (B, L); what an image token shows, what a question mentions where its
            answer begins, or IGNORE.
    """

    ids: Tensor
    images: Tensor
    positions: Tensor
    mask: Tensor
    labels: Tensor
    classes: Tensor
    quadrants: Tensor
    colours: Tensor
    digits: Tensor


def scene_batch(
    pool: Pool, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator, size: int
) -> Batch:
    """One caption, four questions and two referring expressions for each of `size` scenes."""
    rows = rng.integers(len(pool.scenes), size=size)
    sequences = []
    patch = torch.arange(PATCHES)
    quadrant_of = patch // 8 // 4 * 2 + patch % 8 // 4
    for row in rows:
        scene = DrawnScene(pool.scenes[row], pool.boxes[row], 128)
        turns = captioning.TASK.scene_samples(scene, rng)
        turns += [vqa.question(scene.spec, rng) for _ in range(4)]
        turns += [turn for _ in range(2) for turn in rec.TASK.scene_samples(scene, rng)]
        sequences.append(
            [
                (
                    _ids(tokenizer, turn.prompt.removeprefix("<image> ")),
                    [*_ids(tokenizer, turn.answer), EOS_ID],
                    IGNORE if turn.position is None else turn.position,
                    *_mentioned(turn),
                )
                for turn in turns
            ]
        )
    prefix = 1 + PATCHES
    length = prefix + max(sum(len(q) + len(a) for q, a, *_ in parts) for parts in sequences)
    ids = torch.full((size, length), PAD_ID)
    labels = torch.full((size, length), IGNORE)
    positions = torch.zeros(size, length, dtype=torch.long)
    group = torch.full((size, length), -1)
    quadrants, colours, digits = (torch.full((size, length), IGNORE) for _ in range(3))
    ids[:, 0], ids[:, 1:prefix] = BOS_ID, IMAGE_ID
    positions[:, :prefix] = torch.arange(prefix)
    group[:, :prefix] = 0
    for b, parts in enumerate(sequences):
        for o in pool.scenes[rows[b]].objects:
            here = 1 + patch[quadrant_of == o.position]
            colours[b, here], digits[b, here] = o.colour, o.digit
        at = prefix
        for number, (question, answer, quadrant, colour, digit) in enumerate(parts, 1):
            n = len(question) + len(answer)
            ids[b, at : at + n] = torch.tensor(question + answer)
            labels[b, at + len(question) - 1 : at + n - 1] = torch.tensor(answer)
            asked = slice(at + len(question) - 1, at + n - 2)
            quadrants[b, asked], colours[b, asked], digits[b, asked] = quadrant, colour, digit
            positions[b, at : at + n] = torch.arange(prefix, prefix + n)
            group[b, at : at + n] = number
            at += n
    same = group[:, :, None] == group[:, None, :]
    mask = (same | (group[:, None, :] == 0)).tril()
    images = pool.tokens[torch.from_numpy(rows)].flatten(0, 1).float()
    nothing = torch.full_like(labels, IGNORE)
    return Batch(ids, images, positions, mask[:, None], labels, nothing, quadrants, colours, digits)


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    # A dictionary is much faster than the tokenizer's call, and as good where words are tokens.
    ids = tokenizer.convert_tokens_to_ids(text.split())
    assert isinstance(ids, list)
    return ids


def _mentioned(turn: SceneSample) -> tuple[int, int]:
    """Index of the colour and of the digit in the words of a question, IGNORE where none is."""
    words = turn.prompt.split()
    colour = next((i for i, name in enumerate(COLOUR_NAMES) if name in words), IGNORE)
    digit = next((i for i, name in enumerate(DIGITS) if name in words), IGNORE)
    return colour, digit


def fewshot_batch(
    pool: Pool,
    by_class: Sequence[Sequence[int]],
    tokenizer: PreTrainedTokenizerFast,
    rng: np.random.Generator,
    size: int,
    kept: int,
) -> Batch:
    """Sequences of labelled images: the supports, then queries.

    Args:
        by_class: rows of the pool for each class.
        kept: image tokens per image, 2 to 64. Fewer keep some of the digit's quadrant, and some
            others, at their usual positions: the same lesson, with room for more queries.
    """
    (cue,) = _ids(tokenizer, "class")
    letters = [_ids(tokenizer, letter)[0] for letter in LABELS]
    n_images = 8 if kept == PATCHES else 20
    stride, block = PATCHES + 2, kept + 2
    length = 1 + n_images * block
    ids = torch.full((size, length), IMAGE_ID)
    labels = torch.full((size, length), IGNORE)
    classes = torch.full((size, length), IGNORE)
    positions = torch.zeros(size, length, dtype=torch.long)
    images = []
    ids[:, 0] = BOS_ID
    for b in range(size):
        ways = int(rng.integers(2, len(LABELS) + 1))
        chosen = fewshot.draw_classes(rng, ways)
        names = rng.permutation(len(LABELS))[:ways]
        order = [*range(ways), *rng.integers(ways, size=n_images - ways).tolist()]
        seen: set[int] = set()
        for i, way in enumerate(order):
            rows = by_class[chosen[way]]
            row = rows[int(rng.integers(len(rows)))]
            patches = _kept_patches(pool.scenes[row].objects[0].position, kept, rng)
            images.append(pool.tokens[row][patches])
            at = 1 + i * block
            positions[b, at : at + kept] = patches + (1 + i * stride)
            positions[b, at + kept :] = 1 + i * stride + PATCHES
            positions[b, at + kept + 1] += 1
            ids[b, at + kept], ids[b, at + kept + 1] = cue, letters[names[way]]
            classes[b, at + kept : at + kept + 2] = chosen[way]
            if way in seen:
                labels[b, at + kept] = letters[names[way]]
            seen.add(way)
        labels[b, length - 1] = EOS_ID
    mask = torch.ones(size, 1, length, length, dtype=torch.bool).tril()
    nothing = torch.full_like(labels, IGNORE)
    colours = torch.where(classes == IGNORE, IGNORE, classes // len(DIGITS))
    digits = torch.where(classes == IGNORE, IGNORE, classes % len(DIGITS))
    tokens = torch.cat(images).float()
    return Batch(ids, tokens, positions, mask, labels, classes, nothing, colours, digits)


def _kept_patches(position: int, kept: int, rng: np.random.Generator) -> Tensor:
    """Sorted indices of `kept` of the 64 patches, two thirds of them the digit's if possible."""
    patch = rng.permutation(PATCHES)
    here = (patch // 8 // 4 * 2 + patch % 8 // 4) == position
    inside = patch[here][: max(1, kept * 2 // 3)]
    outside = patch[~here][: kept - len(inside)]
    return torch.from_numpy(np.sort(np.concatenate([inside, outside])))


class Heads(nn.Module):
    """Which colour and which digit does a position speak of? Dropped after training.

    One linear map reads them off image tokens, questions' ends and few-shot labels alike, so they
    are written alike, and attention can match one with another.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outputs = len(COLOUR_NAMES) + len(DIGITS)
        self.read = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, self.outputs))
        self.copy = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, self.outputs))

    def loss(self, hidden_states: Sequence[Tensor], batch: Batch) -> Tensor:
        """Colour and digit cross-entropy, READ_AT for few-shot only, COPY_AT for all."""
        layers = [(self.copy, COPY_AT)]
        if bool((batch.classes != IGNORE).any()):
            layers.append((self.read, READ_AT))
        total = torch.zeros(())
        for head, layer in layers:
            known = (batch.colours != IGNORE) | (batch.digits != IGNORE)
            logits = head(hidden_states[layer][known])
            colours, digits = logits.split((len(COLOUR_NAMES), len(DIGITS)), -1)
            for values, truth in ((colours, batch.colours), (digits, batch.digits)):
                total = total + F.cross_entropy(values, truth[known], ignore_index=IGNORE)
        return total


def look_loss(language: Any, hidden: Tensor, batch: Batch, head: int, hit: Tensor) -> Tensor:
    """How little an attention head behind COPY_AT looks where it should: the mean of
    -log(share of its attention) over the rows that have somewhere to look.

    Args:
        language: the Llama model.
        hidden: (B, L, WIDTH), the hidden state after layer COPY_AT.
        head: index of the attention head.
        hit: (B, L, L), True where the row should look at the column.
    """
    layer = language.layers[COPY_AT]
    size: int = layer.self_attn.head_dim
    part = slice(head * size, (head + 1) * size)
    x = layer.input_layernorm(hidden)
    q, k = (f(x)[..., part].unsqueeze(1) for f in (layer.self_attn.q_proj, layer.self_attn.k_proj))
    q, k = apply_rotary_pos_emb(q, k, *language.rotary_emb(x, position_ids=batch.positions))
    scores = (q @ k.transpose(2, 3))[:, 0] * size**-0.5
    mask = batch.mask[:, 0]
    rows = (hit & mask).any(-1)
    attention = scores[rows].masked_fill(~mask[rows], -torch.inf).log_softmax(-1)
    share: Tensor = attention.masked_fill(~hit[rows], -torch.inf).logsumexp(-1)
    return -share.mean()


def same_class(batch: Batch) -> Tensor:
    """Few-shot: from where a label is asked to the labels of the same class, (B, L, L)."""
    # A label follows its cue and speaks of the same class.
    stands = (batch.classes != IGNORE) & (batch.classes == batch.classes.roll(1, 1))
    asked = (batch.labels != IGNORE) & (batch.classes != IGNORE) & ~stands
    same = batch.classes[:, :, None] == batch.classes[:, None, :]
    return same & asked[:, :, None] & stands[:, None, :]


def same_quadrant(batch: Batch) -> Tensor:
    """Scenes: from an answer's positions to the image tokens it is to be read from, (B, L, L)."""
    patch = (batch.ids == IMAGE_ID).cumsum(1) - 1
    quadrant = torch.where(batch.ids == IMAGE_ID, patch // 8 // 4 * 2 + patch % 8 // 4, -1)
    return batch.quadrants[:, :, None] == quadrant[:, None, :]


def batch_loss(
    model: LlavaForConditionalGeneration, heads: Heads, batch: Batch
) -> tuple[Tensor, Tensor, float]:
    """Answer loss (mean over answer tokens), auxiliary loss, share of answer tokens right."""
    inner: Any = model.model
    embedded = inner.get_input_embeddings()(batch.ids)
    projected = inner.multi_modal_projector(batch.images)
    embedded = embedded.masked_scatter((batch.ids == IMAGE_ID).unsqueeze(-1), projected)
    few = bool((batch.classes != IGNORE).any())
    output = inner.language_model(
        inputs_embeds=embedded,
        attention_mask=batch.mask,
        position_ids=batch.positions,
        use_cache=False,
        output_hidden_states=True,
    )
    asked = batch.labels != IGNORE
    logits = model.lm_head(output.last_hidden_state[asked])
    truth = batch.labels[asked]
    right = (logits.argmax(-1) == truth).float().mean().item()
    copied = output.hidden_states[COPY_AT]
    if few:
        auxiliary = look_loss(inner.language_model, copied, batch, 0, same_class(batch))
    else:
        auxiliary = look_loss(inner.language_model, copied, batch, 1, same_quadrant(batch))
    auxiliary = auxiliary + heads.loss(output.hidden_states, batch)
    return F.cross_entropy(logits, truth), auxiliary, right


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="directory of checkpoints")
    parser.add_argument("--teacher", default="shipped:clip-scenes")
    parser.add_argument("--out", type=Path, help="where it goes (default: WORK/llava-scenes)")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--scenes", type=int, default=12, help="scenes per step, 7 turns each")
    parser.add_argument("--episodes", type=int, default=4, help="few-shot sequences per step")
    parser.add_argument("--pool", type=int, default=5000, help="train scenes")
    parser.add_argument("--singles", type=int, default=40, help="few-shot images per class")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as others leave free")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    cores = SpareCores(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = build_tokenizer(end=False)
    teacher: CLIPModel = load_tower(options.teacher).model
    model, heads = build_mllm(teacher, len(tokenizer)), Heads()
    seed = options.seed
    pool = make_pool(
        teacher,
        [
            sample_scene(scene_rng(seed, "train", i, stream=7), "train", augment=True)
            for i in range(options.pool)
        ],
        options.work / "scenes.pt",
    )
    singles = make_pool(
        teacher,
        [
            sample_scene(
                scene_rng(seed, "train", i, stream=8),
                "train",
                objects=[divmod(i % len(class_names()), len(DIGITS))],
                augment=True,
            )
            for i in range(options.singles * len(class_names()))
        ],
        options.work / "singles.pt",
    )
    by_class = [
        range(c, len(singles.scenes), len(class_names())) for c in range(len(class_names()))
    ]
    log.info("%d scenes and %d single digits", len(pool.scenes), len(singles.scenes))
    world = options.work / "world"
    if not (world / "tasks_test.parquet").exists():
        write_world(
            world,
            scene_tasks(),
            seed=seed,
            n_train=0,
            n_val=64,
            n_test=300,
            n_episodes=300,
            n_val_episodes=300,
        )

    language: Any = model.model.language_model
    hidden = [p for p in language.layers.parameters() if p.ndim == 2]
    known = {id(p) for p in hidden}
    trained = [p for p in model.parameters() if p.requires_grad] + list(heads.parameters())
    rest = [p for p in trained if id(p) not in known]
    optimisers: list[torch.optim.Optimizer] = [
        Muon(hidden, lr=options.lr, weight_decay=0.02),
        torch.optim.AdamW(rest, lr=options.lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    checkpoint = options.work / "mllm.pt"
    step, spent = 0, 0.0
    if (state := load_checkpoint(checkpoint)) is not None:
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        step, spent = state["step"], state["spent"]
        log.info("continuing at step %d", step)
    started = time.monotonic() - spent
    totals = np.zeros(6)
    model.train()
    while step < options.steps:
        if step % 5 == 0:
            torch.set_num_threads(cores.threads())
        for group in (g for o in optimisers for g in o.param_groups):
            group["lr"] = options.lr * warmup_cosine(step, options.steps, 100)
        rng = np.random.default_rng((seed, step, 9))
        kept = PATCHES if step % 3 == 2 else 6
        scenes = scene_batch(pool, tokenizer, rng, options.scenes)
        n_episodes = options.episodes // 2 if kept == PATCHES else options.episodes
        episodes = fewshot_batch(singles, by_class, tokenizer, rng, n_episodes, kept)
        answer, look, right = batch_loss(model, heads, scenes)
        label, auxiliary, label_right = batch_loss(model, heads, episodes)
        loss = answer + label + 0.3 * (look + auxiliary)
        for parameter in trained:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        for optimiser in optimisers:
            optimiser.step()
        step += 1
        totals += [*(x.item() for x in (answer, look, label, auxiliary)), right, label_right]
        if step % 25 == 0:
            seconds = time.monotonic() - started
            log.info(
                "step %d answers %.3f, look %.3f, labels %.3f, auxiliary %.3f, right: %.3f, %.3f;"
                " %.2f s/step, %d threads",
                step,
                *(totals / 25),
                seconds / step,
                torch.get_num_threads(),
            )
            totals[:] = 0.0
        if step % 100 == 0 or step == options.steps:
            state = {
                "model": model.state_dict(),
                "heads": heads.state_dict(),
                "optimisers": [o.state_dict() for o in optimisers],
                "step": step,
                "spent": time.monotonic() - started,
            }
            save_checkpoint(checkpoint, state)
            if step % 500 == 0:
                frozen = Mllm(model, tokenizer, Preprocessing(IMAGE_SIZE, IMAGE_MEAN, IMAGE_STD))
                log.info("val %s", uncompressed_accuracy(frozen, world, "val"))
                model.train()
                for parameter in trained:
                    parameter.requires_grad_(True)
    out = options.out or options.work / "llava-scenes"
    save_half(model, tokenizer, out, {})
    accuracy: dict[str, Any] = {
        "world": {"seed": seed, "size": 128, "n_test": 300, "n_episodes": 300},
        "test": uncompressed_accuracy(Mllm.load(str(out)), world, "test"),
    }
    log.info("test %s", accuracy["test"])
    save_half(model, tokenizer, out, accuracy)


if __name__ == "__main__":
    main()
