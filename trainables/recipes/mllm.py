"""Train the demo's MLLM: a small Llama that reads the frozen teacher, on uncompressed train scenes.

    scene --teacher, once--> tokens of the layer before the last --projector--> image positions
    [<bos> image][caption turn][question turn][where turn] ...   one image, many turns
    [<bos> image class A image class C image class A ...]        few-shot, in context

A turn sees the image and itself, never another turn, and its positions start behind the image: it
is the separate prompt it will be at test time, without paying for the image each time. The loss is
on answers only; in few-shot sequences on every label that an earlier image gives away.

Run `python -m trainables.recipes.mllm --work DIR --teacher NAME`; it continues from DIR/mllm.pt
when that exists. The shipped MLLM is what this gave from nothing, with Muon in single precision:
1,600 steps, 40 minutes on one busy core. Being told where to look, and one reading of colour and
digit for image, question and label, are what few-shot answers needed: in an earlier run each took
effect within 200 steps.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    CLIPModel,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from trainables.datasets.worlds.scenes.captions import vocabulary
from trainables.datasets.worlds.scenes.sampling import sample_scene
from trainables.datasets.worlds.scenes.scene import DIGITS, class_names
from trainables.datasets.worlds.world import scene_rng
from trainables.datasets.worlds.write import write_world
from trainables.encoders.load import load_tower
from trainables.mllms import Mllm
from trainables.recipes.accuracy import uncompressed_accuracy
from trainables.recipes.common import (
    BOS_ID,
    EOS_ID,
    IMAGE_ID,
    PAD_ID,
    PREPROCESSING,
    begin,
    build_tokenizer,
    recipe_parser,
    save_half,
)
from trainables.recipes.mllm_batches import (
    LAYER_READ,
    PATCHES,
    Pool,
    fewshot_batch,
    make_pool,
    scene_batch,
)
from trainables.recipes.mllm_losses import WIDTH, Heads, batch_loss
from trainables.recipes.steps import Schedule, StepLoss, muon_of, run_steps
from trainables.tasks import scene_tasks

log = logging.getLogger("mllm")
LAYERS = 5


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


def make_pools(teacher: CLIPModel, options: argparse.Namespace) -> tuple[Pool, Pool]:
    """Train scenes, and train scenes of a single digit, class after class."""
    seed, n_classes = options.seed, len(class_names())
    scenes = [
        sample_scene(scene_rng(seed, "train", i, stream=7), "train", augment=True)
        for i in range(options.pool)
    ]
    singles = [
        sample_scene(
            scene_rng(seed, "train", i, stream=8),
            "train",
            objects=[divmod(i % n_classes, len(DIGITS))],
            augment=True,
        )
        for i in range(options.singles * n_classes)
    ]
    pool = make_pool(teacher, scenes, options.work / "scenes.pt")
    return pool, make_pool(teacher, singles, options.work / "singles.pt")


def optimisers_of(
    model: LlavaForConditionalGeneration, trained: Sequence[nn.Parameter], lr: float
) -> list[torch.optim.Optimizer]:
    """Muon for the text model's matrices, AdamW for all other parameters."""
    language: Any = model.model.language_model
    hidden = [p for p in language.layers.parameters() if p.ndim == 2]
    known = {id(p) for p in hidden}
    rest = [p for p in trained if id(p) not in known]
    return [
        muon_of(hidden, lr, weight_decay=0.02),
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def step_loss(
    model: LlavaForConditionalGeneration,
    heads: Heads,
    tokenizer: PreTrainedTokenizerFast,
    pools: tuple[Pool, Pool],
    step: int,
    options: argparse.Namespace,
) -> StepLoss:
    """The loss of a step (0 ..), on batches that are drawn for it.

    Args:
        pools: as `make_pools` gives them.
        options: of the command line.
    """
    pool, singles = pools
    n_scenes, n_classes = len(singles.scenes), len(class_names())
    by_class = [range(c, n_scenes, n_classes) for c in range(n_classes)]
    rng = np.random.default_rng((options.seed, step, 9))
    kept = PATCHES if step % 3 == 2 else 6
    scenes = scene_batch(pool, tokenizer, rng, options.scenes)
    size = options.episodes // 2 if kept == PATCHES else options.episodes
    episodes = fewshot_batch(singles, by_class, tokenizer, rng, size, kept)
    answer, look, right = batch_loss(model, heads, scenes)
    label, auxiliary, label_right = batch_loss(model, heads, episodes)
    loss = answer + label + 0.3 * (look + auxiliary)
    tensors = {"answers": answer, "look": look, "labels": label, "auxiliary": auxiliary}
    values = {name: tensor.item() for name, tensor in tensors.items()}
    return loss, {**values, "answers right": right, "labels right": label_right}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = recipe_parser(__doc__)
    parser.add_argument("--teacher", default="shipped:clip-scenes")
    parser.add_argument("--out", type=Path, help="where it goes (default: WORK/llava-scenes)")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--scenes", type=int, default=12, help="scenes per step, 7 turns each")
    parser.add_argument("--episodes", type=int, default=4, help="few-shot sequences per step")
    parser.add_argument("--pool", type=int, default=5000, help="train scenes")
    parser.add_argument("--singles", type=int, default=40, help="few-shot images per class")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    return begin(parser, arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = _options(arguments)
    seed: int = options.seed
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(vocabulary(), end=False)
    teacher: CLIPModel = load_tower(options.teacher).model
    model, heads = build_mllm(teacher, len(tokenizer)), Heads()
    pools = make_pools(teacher, options)
    log.info("%d scenes and %d single digits", *(len(pool.scenes) for pool in pools))
    world = options.work / "world"
    if not (world / "tasks_test.parquet").exists():
        sizes = {"n_train": 0, "n_val": 64, "n_test": 300, "n_episodes": 300}
        write_world(world, scene_tasks(), seed=seed, **sizes, n_val_episodes=300)
    trained = [p for p in model.parameters() if p.requires_grad] + list(heads.parameters())

    def validate(step: int) -> None:
        if step % 500:
            return
        frozen = Mllm(model, tokenizer, PREPROCESSING)
        log.info("val %s", uncompressed_accuracy(frozen, world, "val"))
        model.train()
        for parameter in trained:
            parameter.requires_grad_(True)

    model.train()
    run_steps(
        {"model": model, "heads": heads},
        trained,
        optimisers_of(model, trained, options.lr),
        Schedule(options.steps, options.lr, warmup=100, save_every=100),
        options.work / "mllm.pt",
        lambda step: step_loss(model, heads, tokenizer, pools, step, options),
        validate,
    )
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
