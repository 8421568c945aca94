"""Small folders of real photographs for the tests of data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


def write_folder(root: Path, counts: dict[str, int], side: int = 80) -> Path:
    """Write `count` JPEGs to each folder, e.g. `train/red_fox`; no two of them are alike."""
    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    rng = np.random.default_rng(0)
    for number, (folder, count) in enumerate(counts.items()):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            left, top = (int(rng.integers(limit)) for limit in (640 - side, 427 - side))
            crop = photographs[(number + i) % 2].crop((left, top, left + side + i, top + side))
            crop.save(root / folder / f"{i:03d}.JPEG", quality=90)
    return root
