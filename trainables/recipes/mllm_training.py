"""What the MLLM's recipes of both made worlds share: the model, its optimisers and the training.

teacher's tower (frozen) --projector--> small Llama --answers--> loss; accuracy on a world
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    CLIPModel,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from trainables.datasets.worlds.samples import SceneTasks
from trainables.datasets.worlds.write import write_world
from trainables.mllms import Mllm
from trainables.recipes.accuracy import uncompressed_accuracy
from trainables.recipes.common import (
    BOS_ID,
    EOS_ID,
    IMAGE_ID,
    PAD_ID,
    PREPROCESSING,
    save_half,
)
from trainables.recipes.packed_losses import WIDTH
from trainables.recipes.packing import LAYER_READ, PATCHES
from trainables.recipes.steps import Schedule, StepLoss, muon_of, run_steps

LAYERS = 5
VALIDATE_EVERY = 500
SAVE_EVERY = 100
"""Steps."""
WARMUP = 100


@dataclass(frozen=True)
class Examination:
    """What an MLLM is measured on, while it is trained and at the end.

    Attributes:
        directory: where scenes and samples are written, unless they are there.
        tasks: with their world.
        seed: of the scenes.
        test: how many of test are made: `n_test`, `n_episodes`.
        val: how many of val are made: `n_val`, `n_val_episodes`.
    """

    directory: Path
    tasks: SceneTasks
    seed: int
    test: Mapping[str, int]
    val: Mapping[str, int]

    def accuracy(self, mllm: Mllm, split: str) -> dict[str, float]:
        """Of every metric on the uncompressed images of a split."""
        if not (self.directory / "tasks_test.parquet").exists():
            write_world(self.directory, self.tasks, seed=self.seed, **self.test, **self.val)
        return uncompressed_accuracy(mllm, self.directory, split)

    @property
    def record(self) -> dict[str, int]:
        """The settings that make the scenes and samples of test again."""
        return {"seed": self.seed, "size": 128, **self.test}


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


def mllm_optimisers(
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


def train_mllm(
    model: LlavaForConditionalGeneration,
    heads: Mapping[str, nn.Module],
    tokenizer: PreTrainedTokenizerFast,
    step_loss: Callable[[int], StepLoss],
    examination: Examination,
    steps: int,
    lr: float,
    checkpoint: Path,
    out: Path,
) -> None:
    """Train to the end, continuing from the checkpoint when it exists, and save.

    Args:
        heads: modules of the loss alone, by name.
        step_loss: step (0 ..) -> its loss.
        out: directory of the MLLM, in half precision, with its accuracy on test.
    """
    log = logging.getLogger(checkpoint.stem)
    trained = [p for p in model.parameters() if p.requires_grad]
    trained += [p for head in heads.values() for p in head.parameters()]

    def validate(step: int) -> None:
        if step % VALIDATE_EVERY:
            return
        frozen = Mllm(model, tokenizer, PREPROCESSING)
        log.info("val %s", examination.accuracy(frozen, "val"))
        model.train()
        for parameter in trained:
            parameter.requires_grad_(True)

    model.train()
    run_steps(
        {"model": model, **heads},
        trained,
        mllm_optimisers(model, trained, lr),
        Schedule(steps, lr, WARMUP, SAVE_EVERY),
        checkpoint,
        step_loss,
        validate,
    )
    save_half(model, tokenizer, out, {})
    test = examination.accuracy(Mllm.load(str(out)), "test")
    log.info("test %s", test)
    save_half(model, tokenizer, out, {"world": examination.record, "test": test})
