"""Small benchmarks in the published formats, on photographs, for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image
from sklearn.datasets import load_sample_images

SIZES = ((96, 64), (64, 96), (80, 80), (130, 70))


def write_images(root: Path, names: list[str]) -> Path:
    """Crops of photographs, of several shapes, as JPEG or PNG by their names."""
    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    for i, name in enumerate(names):
        width, height = SIZES[i % len(SIZES)]
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        box = (37 * i, 23 * i, 37 * i + width, 23 * i + height)
        photographs[i % 2].crop(box).save(file, format="PNG" if name.endswith("png") else "JPEG")
    return root


def write_lines(file: Path, rows: list[dict[str, Any]]) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def write_json(file: Path, content: Any) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return str(file)


def write_pope(root: Path, **changes: Any) -> dict[str, Any]:
    names = [f"COCO_val2014_{i:012d}.jpg" for i in (42, 73, 74)]
    write_images(root / "val2014", names)
    rows = [
        {
            "question_id": i + 1,
            "image": names[i // 2],
            "text": f"Is there a {thing} in the image?",
            "label": label,
        }
        for i, (thing, label) in enumerate(
            [("roof", "yes"), ("dog", "no"), ("tree", "yes"), ("car", "no"), ("boat", "yes")]
        )
    ]
    rows[0] |= changes
    annotations = write_lines(root / "coco_pope_random.json", rows)
    return {"format": "pope", "annotations": annotations, "images": str(root / "val2014")}
