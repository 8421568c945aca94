"""The effect of every setting: what changing it makes again in a finished sweep.

`EFFECTS` states it, by hand; `test_key_effects.py` compares it with real plans, and fails when a
setting has no stated effect. `python -m tests.benchmarks.key_effects` prints it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.orchestrator.plan.effect_spaces import BASELINES


@dataclass(frozen=True)
class Effect:
    """What a changed setting makes again.

    Attributes:
        override: the change, as of `--set`.
        made_again: kinds of stages.
        base: name in `BASES` of the space that is changed.
    """

    override: str
    made_again: frozenset[str]
    base: str = "scenes"


def _effects() -> dict[str, list[Effect]]:
    effects: dict[str, list[Effect]] = {}
    for kinds, base_name, overrides in _TABLE:
        for line in overrides:
            setting, _, override = line.rpartition(" : ")
            path = override.partition("=")[0]
            name = setting or re.sub(r"\.\d+(?=\.|$)", "", path)
            effects.setdefault(name, []).append(Effect(override, frozenset(kinds), base_name))
    for key, field, kinds in _optimisers():
        path = f"{key}.{field}={_OPTIMISER[field]}"
        name = re.sub(r"\.0\.", ".", f"{key}.{field}")
        effects.setdefault(name, []).append(Effect(path, frozenset(kinds)))
    return effects


_NOTHING: set[str] = set()
_NECK = {"d1", "d2", "d3", "end_to_end_oracle", "neck", "shared_neck", "transfer", "transfer_tuned"}
"""What starts from a neck that d1 or shared_neck trains, and these."""
_BEFORE_ENCODER = _NECK | {"adapted_encoder", "post_processing"}
"""What is trained with the surrogate loss, and what starts from it."""
_OF_CODEC = {
    *("codec", "latents", "reconstruction", "downscale", "codec_tuned", "adapted_encoder"),
    *("post_processing", "d1", "d2", "d3", "end_to_end_oracle", "transfer", "transfer_tuned"),
}
"""What rests on the first codec, whose neck `transfer` takes."""
_OF_VBR = _OF_CODEC | {"neck", "shared_neck"}
_OF_TRAIN_IMAGES = _OF_VBR | {"train_images", "features", "text", "feature_coding"}
_SCENE_TASKS = {f"evaluation of {task}" for task in ("captioning", "vqa", "rec")}
_TASKS = _SCENE_TASKS | {"evaluation of fewshot"}
_TEST = {"test_images", "episodes", *_TASKS}
_BENCHMARK = {"benchmark", "evaluation of yes_no"}
_ZERO_SHOT = {"evaluation of classification"}

_OPTIMISER = {
    "steps": "9",
    "until": "plateau",
    "patience": "2",
    "least_progress": "0.5",
    "keep": "last",
    "batch_size": "5",
    "lr": "0.5",
    "lr_drop_at": "0.25",
    "lr_drop": "0.5",
    "lr_decay": "linear",
    "warmup_steps": "3",
    "grad_clip": "2",
    "accumulate": "2",
    "precision": "bf16",
    "validate_every": "3",
    "checkpoint_every": "3",
}

_WITHOUT_EFFECT = ("accumulate", "checkpoint_every", "patience", "least_progress")
"""The last two are those of a training until a plateau."""


def _optimisers() -> Iterator[tuple[str, str, set[str]]]:
    """(key, field, kinds) of each setting that says how something is trained."""
    trained = {
        "d1": _NECK,
        "d2": {"d2"},
        "d3": {"d3", "codec_tuned"},  # `codec_tuned.like`
        "transfer": {"transfer_tuned"},
        "codecs.0.train": _OF_CODEC,
        **{
            key: {key}
            for key in ("post_processing", "adapted_encoder", "feature_coding", "end_to_end_oracle")
        },
    }
    for key, kinds in trained.items():
        for field in _OPTIMISER:
            made = _NOTHING if field in _WITHOUT_EFFECT else kinds
            # The codec of `codec_tuned` learns with `codec_lr`.
            yield key, field, {"d3"} if (key, field) == ("d3", "lr") else made


_TABLE: list[tuple[set[str], str, list[str]]] = [
    # Names, order, resources, and how a thing is computed.
    (
        _NOTHING,
        "scenes",
        [
            "name=other",
            "description=other",
            "codecs.0.name=other",
            "data.name=x",
            "data.shard_size=8",
            "data.max_unreadable=0.5",
            "teacher.name=x",
            "mllms.name : mllms=[{model: 'shipped:llava-scenes', name: x}]",
            "tasks=[rec, fewshot, vqa, captioning]",
            "scenarios=[d3, d1, d2]",
            f"baselines=[{', '.join(reversed(BASELINES.split(', ')))}]",
            "evaluation.batch_size=3",
            "evaluation.shard_size=3",
            "evaluation.examples=0",
            "resources.workers_per_point=1",
            "resources.cpus_per_worker=2",
            "resources.gpus_per_worker=1",
            "resources.memory_gb_per_worker=2",
            "resources.accelerator : resources={gpus_per_worker: 1, accelerator: A100}",
            *(
                f"resources.by_kind.{name} : resources.by_kind={{codec: {{{name}: {value}}}}}"
                for name, value in (
                    ("workers_per_point", 2),
                    ("cpus_per_worker", 2),
                    ("gpus_per_worker", 1),
                    ("memory_gb_per_worker", 2),
                    ("accelerator", "A100, gpus_per_worker: 1"),
                )
            ),
            "resources.checkpoint_blocks=true",
            "resources.max_failures=5",
            "resources.silence_s=5",
            "d1.linear_lr=0.0001",  # its `lr`
            "d3.gamma=1",  # the image is not in its loss
            "classical.name : classical=[{format: jpeg, qualities: [20], name: x}]",
        ],
    ),
    # Of settings that nothing in the space uses.
    (
        _NOTHING,
        "folder",
        ["data.shard_size=3", "evaluation.beams=2", "evaluation.precision=bf16", "neck.layers=2"],
    ),
    (
        _NOTHING,
        "released",
        [
            "d1.steps=9",
            "neck.init=encoder",
            "surrogate.tokens=3",
            "codecs.0.train.lr=3",
            "codecs.train.aux_lr : codecs.0.train.aux_lr=3",
            "codecs.train.crop : codecs.0.train.crop=64",
            "data.train=48",
        ],
    ),
    (_NOTHING, "benchmark", ["benchmarks.0.name=x", "benchmarks.0.seed=3"]),
    # Images and samples.
    (_OF_TRAIN_IMAGES | _TEST, "scenes", ["data.seed=3", "data.size=192"]),
    (_OF_TRAIN_IMAGES, "scenes", ["data.train=48", "data.val=8"]),
    ({"test_images", *_SCENE_TASKS}, "scenes", ["data.test=48"]),
    ({"episodes", "evaluation of fewshot"}, "scenes", ["data.episodes=8"]),
    (
        {"train_images", "codec", "reconstruction", "test_images", "evaluation of counts"},
        "tabletop",
        ["data.levels=[1, 2]"],
    ),
    ({"test_images", "text", *_ZERO_SHOT}, "folder", ["data.test=4"]),
    ({"train_images", "codec", "reconstruction"}, "folder", ["data.train=6", "data.val=3"]),
    (
        {"train_images", "codec", "reconstruction", "test_images", "text", *_ZERO_SHOT},
        "folder",
        [
            "data.seed=1",
            "data.size=128",
            "data.names=NAMES",
            "data.splits.train : data.splits={train: test, val: val, test: train}",
            "data.splits.test : data.splits={train: test, val: val, test: train}",
        ],
    ),
    (
        {"train_images", "codec", "reconstruction"},
        "folder",
        ["data.splits.val : data.splits={train: train, val: train, test: test}"],
    ),
    (_NOTHING, "folder", ["data.uri=COPY"]),
    (
        {"train_images", "codec", "reconstruction", "test_images", "text", *_ZERO_SHOT},
        "table",
        ["data.image_column=other", "data.label_column=number", "data.kind=datasets"],
    ),
    (_BENCHMARK, "benchmark", ["benchmarks.0.limit=3", "benchmarks.0.fit=pad"]),
    (_BENCHMARK, "benchmark", ["benchmarks.0.prompt=<image> {question}"]),
    # Teacher, MLLM, loss and neck.
    (
        _BEFORE_ENCODER | {"features", "text", "feature_coding"} | _TASKS,
        "scenes",
        ["teacher.model=openai/clip-vit-base-patch16"],
    ),
    (_NECK | {"adapted_encoder", "feature_coding"}, "scenes", ["teacher.block=3", "neck.layers=2"]),
    (_NECK | {"feature_coding"}, "scenes", ["neck.heads=1", "neck.mlp_ratio=3"]),
    (_NECK, "scenes", ["neck.init=encoder"]),
    (
        _BEFORE_ENCODER,
        "scenes",
        [
            "surrogate.phases.0.until=0.6",
            "surrogate.phases.0.ce=2",
            "surrogate.phases.0.distill=2",
            "surrogate.pooled=0.5",
            "surrogate.tokens=0.5",
        ],
    ),
    (
        _BEFORE_ENCODER | {"features"} | _TASKS,
        "scenes",
        [
            "surrogate.pooled=0",
            "surrogate.tokens=0",
            "surrogate.token_layer=-1",
            "surrogate.double_norm=true",
        ],
    ),
    (_BEFORE_ENCODER | {"text"}, "scenes", ["surrogate.templates=plain"]),
    (_BEFORE_ENCODER | {"text"}, "scenes", ["surrogate.classes=NAMES"]),
    (_ZERO_SHOT, "folder", ["surrogate.double_norm=true"]),
    (_ZERO_SHOT | {"text"}, "folder", ["surrogate.templates=plain"]),
    (
        _TASKS | {"end_to_end_oracle"},  # which is trained through the first
        "scenes",
        ["mllms.model : mllms=[other/model]"],
    ),
    ({"end_to_end_oracle"}, "scenes", ["tasks=[vqa]"]),  # which learns from its answers
    (_TASKS, "scenes", ["evaluation.beams=2", "evaluation.precision=bf16"]),
    # Codecs.
    (
        _OF_CODEC,
        "scenes",
        [
            "codecs.0.lambdas=[0.03]",
            "codecs.0.weights=FOLDER/a",
            "codecs.0.train.aux_lr=0.5",
            "codecs.0.train.crop=64",
            "codecs.arch : codecs.0.arch=mbt2018",
            "codecs.hyperprior.N : codecs.0.N=24",
        ],
    ),
    (
        _OF_VBR,
        "scenes",
        ["codecs.variable_rate.rate_lambdas : codecs.1.rate_lambdas=[0.002, 0.01, 0.1]"],
    ),
    (_OF_VBR, "scenes", ["codecs.variable_rate.N : codecs.1.N=24"]),
    (
        _OF_VBR - {"codec"},
        "scenes",
        ["codecs.variable_rate.qualities : codecs.1.qualities=[1, 3]"],
    ),
    (
        {"codec", "reconstruction"},
        "codecs",
        [
            "codecs.M : codecs.0.M=24",
            "codecs.autoregressive.N : codecs.1.N=24",
            "codecs.factorized.N : codecs.2.N=24",
            "codecs.tic.N : codecs.3.N=32",
            "codecs.tic.depths : codecs.3.depths=[1, 1, 1, 1, 1]",
            "codecs.elic.N : codecs.4.N=24",
            "codecs.elic.groups : codecs.4.groups=[16, 16]",
            "codecs.elic.context_width : codecs.4.context_width=0.5",
            *(
                f"codecs.{family}.qualities : codecs.{number}={{arch: {arch}, qualities: [1]}}"
                for number, family, arch in (
                    (0, "hyperprior", "mbt2018-mean"),
                    (1, "autoregressive", "mbt2018"),
                    (2, "factorized", "bmshj2018-factorized"),
                )
            ),
        ],
    ),
    ({"d1"}, "released", ["codecs.released : codecs.0.released={d1: [FOLDER/a]}", "neck.layers=2"]),
    # Points.
    (
        _BEFORE_ENCODER | {"codec_tuned", "feature_coding"},
        "scenes",
        ["seeds=[1]"],
    ),
    ({"d2"}, "scenes", ["variants={a: {}, b: {d2.steps: 9}}"]),
    ({"d2"}, "scenes", ["d2.gamma=1", "d2.delta=2", "d2.codec_lr=0.5"]),
    ({"d3"}, "scenes", ["d3.delta=2"]),
    ({"d3", "codec_tuned"}, "scenes", ["d3.codec_lr=0.5"]),
    (_NECK, "scenes", ["d1.linear_lr=0.5"]),
    ({"codec_tuned"}, "scenes", ["codec_tuned.like=d2"]),
    ({"adapted_encoder"}, "scenes", ["adapted_encoder.layers=2"]),
    ({"classical"}, "scenes", ["classical.format : classical=[{format: webp, qualities: [20]}]"]),
    ({"classical"}, "scenes", ["classical.qualities : classical=[{format: jpeg, qualities: [9]}]"]),
    ({"downscale"}, "scenes", ["downscale.factor=3"]),
    ({"feature_coding"}, "scenes", ["feature_coding.lambdas=[1.0, 2.0]"]),
    ({"feature_coding"}, "scenes", ["feature_coding.channels=8", "feature_coding.aux_lr=0.5"]),
    ({"post_processing"}, "scenes", ["post_processing.channels=4", "post_processing.levels=1"]),
    ({"transfer", "transfer_tuned"}, "scenes", ["transfer.source=vbr"]),
    ({"transfer_tuned"}, "scenes", ["transfer.linear_lr=0.5"]),
]

SEARCH = {
    *("search.algorithm", "search.trials", "search.seed", "search.over.uniform"),
    *("search.over.log_uniform", "search.over.integers", "search.over.choice"),
}
"""Settings below `search`, whose trials are no stages: they are kept under a digest of all of them
and of the point's key (`orchestrator/search.py`)."""
FORMATS_FILES = {
    *("benchmarks.annotations", "benchmarks.refcoco.instances", "benchmarks.vqav2.questions"),
    *("benchmarks.mini_imagenet.names",),
    *(
        f"benchmarks.{name}.images"
        for name in ("coco_karpathy", "imagenet", "mini_imagenet", "ocr", "pope", "unlabelled")
    ),
    *(f"benchmarks.{name}.images" for name in ("refcoco", "seed_bench", "vqav2")),
}
"""Settings that name a benchmark's files: these count by their content, in its `files`."""
FORMATS_SETTINGS = {
    "benchmarks.format": ("pope", "seed_bench"),
    "benchmarks.coco_karpathy.split": ("coco_karpathy", "val"),
    "benchmarks.mini_imagenet.ways": ("mini_imagenet", 3),
    "benchmarks.mini_imagenet.shots": ("mini_imagenet", 2),
    "benchmarks.mmbench.split": ("mmbench", "dev"),
    "benchmarks.mmbench.scoring": ("mmbench", "likelihood"),
    "benchmarks.unlabelled.questions": ("unlabelled", ("How many are there?",)),
    "benchmarks.refcoco.split": ("refcoco", "testA"),
    "benchmarks.refcoco.box_format": ("refcoco", "loc"),
    "benchmarks.refcoco.boxes": ("refcoco", "xyxy"),
    "benchmarks.seed_bench.split": ("seed_bench", "test"),
    "benchmarks.seed_bench.scoring": ("seed_bench", "likelihood"),
}
"""Settings of formats that change a benchmark's samples: (format, another value)."""
EFFECTS = _effects()
