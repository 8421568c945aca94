"""Small random models in the format of the shipped ones, for tests that need no accuracy.

Run as a script: `python tests/orchestrator/models.py DIRECTORY` writes DIRECTORY/{clip,llava}.
"""

import sys
from pathlib import Path


def write_models(directory: Path) -> tuple[Path, Path]:
    import torch

    from trainables.recipes.common import build_tokenizer, image_processor
    from trainables.recipes.mllm import build_mllm
    from trainables.recipes.teacher import build_teacher

    torch.manual_seed(0)
    clip_tokenizer, llava_tokenizer = build_tokenizer(end=True), build_tokenizer(end=False)
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
