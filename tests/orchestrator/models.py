"""Models of tests that need no accuracy: small random ones, and hub ids that nobody has.

Run as a script: `python tests/orchestrator/models.py DIRECTORY` writes DIRECTORY/{clip,llava}.
"""

import sys
from pathlib import Path

from orchestrator.execution.job_steps import Settings
from orchestrator.plan.jobs import Plan
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points

SMOKE = ["smoke", "--set=teacher.model=hub/teacher", "--set=mllms=[hub/mllm]"]
"""Arguments of the command: the smoke space with models that are not on this machine."""


def settings_of(storage: Path, models: tuple[Path, Path], *overrides: str) -> Settings:
    """What the jobs of the smoke space need that a storage does not hold yet."""
    clip, llava = models
    space = load_space("smoke", (f"teacher.model={clip}", f"mllms=[{llava}]", *overrides))
    plan = Plan(space, operating_points(space), {}, Store(str(storage)))
    return Settings(space, str(storage), plan.jobs, {})


def write_models(directory: Path) -> tuple[Path, Path]:
    import torch

    from trainables.datasets.worlds.scenes.captions import vocabulary
    from trainables.recipes.common import build_tokenizer, image_processor
    from trainables.recipes.mllm_training import build_mllm
    from trainables.recipes.teacher_training import build_teacher

    torch.manual_seed(0)
    clip_tokenizer, llava_tokenizer = (
        build_tokenizer(vocabulary(), end=True),
        build_tokenizer(vocabulary(), end=False),
    )
    clip = build_teacher(len(clip_tokenizer))
    llava = build_mllm(clip, len(llava_tokenizer))
    for name, model, tokenizer in (
        ("clip", clip, clip_tokenizer),
        ("llava", llava, llava_tokenizer),
    ):
        model.save_pretrained(directory / name)
        tokenizer.save_pretrained(directory / name)
        image_processor().save_pretrained(directory / name)
    return directory / "clip", directory / "llava"


if __name__ == "__main__":
    write_models(Path(sys.argv[1]))
