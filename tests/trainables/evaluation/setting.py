"""A small space to evaluate: its world, teacher, MLLM, codec and points, tiny and untrained."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from search_spaces import OperatingPoint, Space
from tests.trainables.small import make_clip, make_space, save_teacher
from trainables.codecs import Codec, build_codec, load_codec, save_codec
from trainables.datasets.arrays import decode_image
from trainables.datasets.worlds.scenes.captions import vocabulary
from trainables.datasets.worlds.write import write_world
from trainables.encoders.tower import Tower
from trainables.evaluation.evaluate import PointFiles, TaskEvaluation, evaluate_point
from trainables.points.building import build_neck
from trainables.points.weights import save_trained
from trainables.recipes.common import BOS_ID, EOS_ID, IMAGE_ID, PAD_ID, build_tokenizer
from trainables.tasks import scene_tasks


class Setting:
    """A world, a teacher, an MLLM and a codec, all tiny and untrained, in one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        write_world(
            root / "world",
            scene_tasks(),
            size=64,
            seed=0,
            n_train=0,
            n_val=0,
            n_test=5,
            n_episodes=2,
        )
        save_teacher(root / "teacher")
        save_llava(root / "llava")
        self.space: Space = make_space(
            root / "teacher", mllms=[str(root / "llava")], evaluation={"examples": 2}
        )
        self.measurements = self.space.measurements
        self.spec = self.space.codecs[0]
        torch.manual_seed(0)
        codec = build_codec(self.spec)
        with torch.no_grad():
            # Fresh weights code nothing but zeros.
            codec.net.g_a[-1].weight.mul_(40)
        save_codec(codec, root / "codec")
        tower = Tower(make_clip())
        torch.manual_seed(1)
        neck = build_neck(self.space, self.spec, tower)
        state = {f"neck.{name}": value for name, value in neck.state_dict().items()}
        (root / "d1").mkdir()
        save_trained(state, root / "d1")
        torch.manual_seed(2)
        updated_codec = build_codec(self.spec)
        state |= {f"codec.{name}": p.detach() for name, p in updated_codec.named_parameters()}
        (root / "d3").mkdir()
        kept = {n: v for n, v in state.items() if not n.startswith("codec.net.g_s.")}
        save_trained(kept, root / "d3")

    def point(self, scenario: str) -> OperatingPoint:
        if scenario == "uncompressed":
            return OperatingPoint(None, None, scenario, 0)
        return OperatingPoint(self.spec, 0.01, scenario, 0)

    def codec(self) -> Codec:
        return load_codec(self.spec, self.root / "codec")

    def images(self) -> dict[str, Tensor]:
        rows = pq.read_table(self.root / "world/images_test.parquet").to_pylist()
        pixels = {row["image_id"]: decode_image(row["png"]) for row in rows}
        return {
            i: torch.from_numpy(p.copy()).permute(2, 0, 1)[None] / 255 for i, p in pixels.items()
        }

    def run(
        self,
        scenario: str,
        out: Path,
        world: Path | None = None,
        part: tuple[int, int] | None = None,
        **evaluation: int,
    ) -> dict[str, Any]:
        directory = world or self.root / "world"
        evaluations = [
            TaskEvaluation(measurement, directory, directory, out / measurement.task)
            for measurement in self.measurements
        ]
        shares: list[float] = []
        how = self.space.evaluation.model_copy(update=evaluation)
        space = self.space.model_copy(update={"evaluation": how})
        evaluate_point(
            space,
            self.point(scenario),
            evaluations,
            PointFiles(self.root / scenario, self.root / "codec"),
            out.with_name(out.name + "-work"),
            progress=shares.append,
            part=part,
        )
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        if part is not None:
            return {}
        return joined([evaluation.out for evaluation in evaluations], out)


def joined(tasks: list[Path], out: Path) -> dict[str, Any]:
    """The results of tasks as one: all samples, and each image, failure and example once.

    Args:
        out: for the files of all examples.
    """
    result: dict[str, Any] = {"samples": [], "summary": {}, "info": {}, "examples": []}
    images: dict[str, dict[str, Any]] = {}
    pages: dict[str, dict[str, Any]] = {}
    for task in tasks:
        result["samples"] += pq.read_table(task / "samples.parquet").to_pylist()
        result["summary"] |= json.loads((task / "summary.json").read_text())
        for row in pq.read_table(task / "images.parquet").to_pylist():
            assert images.setdefault(row["image_id"], row) == row
        for name, value in json.loads((task / "info.json").read_text()).items():
            known = result["info"].setdefault(name, value)
            if isinstance(value, list):
                known += [row for row in value if row not in known]
        for example in json.loads((task / "examples" / "examples.json").read_text()):
            page = pages.setdefault(example["page"], example)
            if page is not example:
                page["samples"] += example["samples"]
                page["boxes"] |= example["boxes"]
        shutil.copytree(task / "examples", out / "examples", dirs_exist_ok=True)
    # Scenes come before the images of episodes, in the order of their names.
    result["images"] = sorted(
        images.values(), key=lambda row: ("single" in row["image_id"], row["image_id"])
    )
    result["examples"] = sorted(pages.values(), key=lambda page: len(page["images"]))
    return result


def save_llava(directory: Path) -> None:
    tokenizer = build_tokenizer(vocabulary(), end=False)
    clip = make_clip()
    vision = clip.config.vision_config.to_dict()
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**vision),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_range=0.4,
            bos_token_id=BOS_ID,
            eos_token_id=EOS_ID,
            pad_token_id=PAD_ID,
        ),
        image_token_index=IMAGE_ID,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=16,
    )
    model = LlavaForConditionalGeneration(config)
    tower: Any = model.model.vision_tower
    tower.load_state_dict(clip.vision_model.state_dict())
    with torch.no_grad():
        for parameter in model.model.multi_modal_projector.parameters():
            parameter.mul_(20)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    side = vision["image_size"]
    square = {"height": side, "width": side}
    CLIPImageProcessor(size=square, crop_size=square).save_pretrained(directory)
