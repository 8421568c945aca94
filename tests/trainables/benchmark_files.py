"""Small benchmarks in the published formats, on photographs, for the tests.

Each writer makes the files below a directory and returns the settings of a `BenchmarkSpec`. What
`change` does to the annotations before they are written makes them wrong.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from sklearn.datasets import load_sample_images

SIZES = ((96, 64), (64, 96), (80, 80), (130, 70))
COCO = [f"COCO_val2014_{i:012d}.jpg" for i in (42, 73, 74)]
Change = Callable[[Any], object]


def nothing(content: Any) -> None:
    """Leave the annotations right."""


def crop(i: int) -> Image.Image:
    """One of several shapes of a photograph."""
    width, height = SIZES[i % len(SIZES)]
    photograph = Image.fromarray(load_sample_images().images[i % 2])
    return photograph.crop((37 * i, 23 * i, 37 * i + width, 23 * i + height))


def write_images(root: Path, names: list[str]) -> str:
    """Crops of photographs, of several shapes, as JPEG or PNG by their names."""
    for i, name in enumerate(names):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        crop(i).save(file, format="PNG" if name.endswith("png") else "JPEG")
    return str(root)


def write_lines(file: Path, rows: list[dict[str, Any]]) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def write_json(file: Path, content: Any) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return str(file)


def write_table(file: Path, rows: list[dict[str, str]], delimiter: str) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(rows[0]) if rows else ["nothing"], delimiter=delimiter)
        table.writeheader()
        table.writerows(rows)
    return str(file)


def write_pope(root: Path, change: Change = nothing) -> dict[str, Any]:
    things = [("roof", "yes"), ("dog", "no"), ("tree", "yes"), ("car", "no"), ("boat", "yes")]
    rows = [
        {
            "question_id": i + 1,
            "image": COCO[i // 2],
            "text": f"Is there a {thing} in the image?",
            "label": label,
        }
        for i, (thing, label) in enumerate(things)
    ]
    change(rows)
    annotations = write_lines(root / "coco_pope_random.json", rows)
    images = write_images(root / "val2014", COCO)
    return {"format": "pope", "annotations": annotations, "images": images}


def write_karpathy(root: Path, change: Change = nothing) -> dict[str, Any]:
    """Of two splits; the images of COCO stand in a folder that the annotations name."""

    def image(i: int, split: str) -> dict[str, Any]:
        raw = [f"A house number {i}.", f"Roofs, {i} of them."]
        return {
            "filepath": "val2014",
            "filename": COCO[i],
            "imgid": i,
            "cocoid": int(COCO[i][-16:-4]),
            "split": split,
            "sentids": [2 * i, 2 * i + 1],
            "sentences": [
                {"tokens": text.lower().split(), "raw": text, "imgid": i, "sentid": 2 * i + n}
                for n, text in enumerate(raw)
            ],
        }

    content = {
        "images": [image(0, "test"), image(1, "val"), image(2, "test")],
        "dataset": "coco",
    }
    change(content)
    write_images(root / "coco" / "val2014", COCO)
    annotations = write_json(root / "dataset_coco.json", content)
    return {"format": "coco_karpathy", "annotations": annotations, "images": str(root / "coco")}


def write_seed_bench(root: Path, change: Change = nothing) -> dict[str, Any]:
    """Two questions about images, whose names have no suffix, and one about a video."""

    def question(i: int, kind: str, answer: str, data_id: str) -> dict[str, Any]:
        return {
            "answer": answer,
            **{f"choice_{x}": f"{number} things" for number, x in enumerate("abcd", 1)},
            "data_id": data_id,
            "data_type": kind,
            "question": f"How many things are in picture {i}?",
            "question_id": str(100 + i),
            "question_type_id": 5 if kind == "image" else 10,
        }

    content = {
        "questions": [
            question(0, "image", "B", "1454426_2591111986"),
            question(1, "video", "A", "video/1.mp4"),
            question(2, "image", "D", "1009452_2849838149"),
        ],
        "question_type": {"Instances Counting": 5, "Action Recognition": 10},
    }
    change(content)
    names = [str(row["data_id"]) for row in content["questions"] if row["data_type"] == "image"]
    images = write_images(root / "SEED-Bench-image", sorted(set(names)))
    annotations = write_json(root / "SEED-Bench.json", content)
    return {"format": "seed_bench", "annotations": annotations, "images": images}


def write_mmbench(root: Path, change: Change = nothing) -> dict[str, Any]:
    """A question in its two rotations, the second with the index of the first for an image, and
    one that is asked once; of two splits."""

    def encoded(i: int) -> str:
        buffer = io.BytesIO()
        crop(i).save(buffer, format="JPEG")
        return base64.b64encode(buffer.getvalue()).decode()

    common = {"C": "", "D": "", "category": "counting", "source": "x", "l2-category": "y"}
    rows = [
        {
            **{"index": "241", "question": "How many roofs?", "hint": "Look up.", "answer": "B"},
            **{"A": "one", "B": "two", "image": encoded(0), "split": "dev", **common},
        },
        {
            **{"index": "1000241", "question": "How many roofs?", "hint": "Look up."},
            **{"answer": "A", "A": "two", "B": "one", "image": "241", "split": "dev", **common},
        },
        {
            **{"index": "252", "question": "Which color?", "hint": "nan", "answer": "C"},
            **{"A": "red", "B": "blue", "image": encoded(1), "split": "dev", **common, "C": "grey"},
        },
    ]
    change(rows)
    return {"format": "mmbench", "annotations": write_table(root / "mmbench.tsv", rows, "\t")}


def write_vqav2(root: Path, change: Change = nothing) -> dict[str, Any]:
    """Two questions with ten answers each; `change` gets both files."""

    def answers(*given: str) -> list[dict[str, Any]]:
        return [
            {"answer": a, "answer_confidence": "yes", "answer_id": i}
            for i, a in enumerate(given, 1)
        ]

    content = {
        "questions": {
            "data_subtype": "val2014",
            "questions": [
                {"image_id": 42, "question": "What is on the roof?", "question_id": 42000},
                {"image_id": 74, "question": "How many roofs?", "question_id": 74001},
            ],
        },
        "annotations": {
            "data_subtype": "val2014",
            "annotations": [
                {
                    **{"question_id": 74001, "image_id": 74, "multiple_choice_answer": "2"},
                    "answers": answers(*["2"] * 8, "two", "3"),
                },
                {
                    **{"question_id": 42000, "image_id": 42, "multiple_choice_answer": "snow"},
                    "answers": answers(*["snow"] * 3, *["tiles"] * 7),
                },
            ],
        },
    }
    change(content)
    return {
        "format": "vqav2",
        "annotations": write_json(root / "v2_val2014_annotations.json", content["annotations"]),
        "questions": write_json(root / "v2_val2014_questions.json", content["questions"]),
        "images": write_images(root / "val2014", COCO),
    }


def write_refcoco(root: Path, change: Change = nothing) -> dict[str, Any]:
    """Lines with the boxes in them, of two splits."""
    rows = [
        {
            **{"id": f"r{i}", "image": COCO[i], "expression": f"roof {i}", "split": split},
            "bbox": [8, 16, 40, 20],
        }
        for i, split in enumerate(["val", "testA", "val"])
    ]
    change(rows)
    annotations = write_lines(root / "refcoco.jsonl", rows)
    images = write_images(root / "val2014", COCO)
    return {"format": "refcoco", "annotations": annotations, "images": images}


def write_refs(root: Path, change: Change = nothing) -> dict[str, Any]:
    """Refs, with COCO's instances; `change` gets both files."""
    content = {
        "refs": [
            {
                **{"ref_id": 7 + i, "ann_id": 900 + i, "image_id": 42 + i, "split": "val"},
                "file_name": f"{COCO[i][:-4]}_{i}.jpg",
                "sentences": [{"sent": f"left roof {i}", "sent_id": i}, {"sent": "the roof"}],
            }
            for i in range(2)
        ],
        "instances": {
            "annotations": [{"id": 900 + i, "bbox": [8.0, 16.0, 40.0, 20.0]} for i in range(3)],
            "images": [{"id": 42 + i, "file_name": COCO[i]} for i in range(3)],
        },
    }
    change(content)
    return {
        "format": "refcoco",
        "annotations": write_json(root / "refs.json", content["refs"]),
        "instances": write_json(root / "instances.json", content["instances"]),
        "images": write_images(root / "val2014", COCO),
    }


def write_mini_imagenet(root: Path, change: Change = nothing) -> dict[str, Any]:
    """Six classes of four images each, synsets that a file names."""
    keys = [f"n0{i}532829" for i in range(6)]
    rows = [
        {"filename": f"{key}{number:08d}.jpg", "label": key} for key in keys for number in range(4)
    ]
    images = write_images(root / "images", [row["filename"] for row in rows])
    change(rows)
    (root / "names.txt").write_text("".join(f"{k} thing {i}, it\n" for i, k in enumerate(keys)))
    annotations = write_table(root / "test.csv", rows, ",")
    return {
        "format": "mini_imagenet",
        "annotations": annotations,
        "images": images,
        "names": str(root / "names.txt"),
        "limit": 8,
    }


def write_imagenet(root: Path, change: Change = nothing) -> dict[str, Any]:
    """Three classes of two images each; `change` gets the lines that name the classes."""
    keys = ["n01440764", "n01443537", "n01484850"]
    lines = [
        f"{keys[i]} {name}" for i, name in enumerate(["tench, Tinca tinca", "goldfish", "shark"])
    ]
    change(lines)
    names = [f"{key}/ILSVRC2012_val_{i:08d}.JPEG" for key in keys for i in (1, 2)]
    (root / "names.txt").write_text("\n".join(lines) + "\n")
    images = write_images(root / "val", names)
    return {"format": "imagenet", "annotations": str(root / "names.txt"), "images": images}


def write_ocr(root: Path, change: Change = nothing) -> dict[str, Any]:
    rows = [
        {"image": "word_1.png", "text": "EXIT"},
        {"image": "word_2.png", "text": ["Main St.", "Main Street"]},
    ]
    change(rows)
    images = write_images(root / "words", ["word_1.png", "word_2.png"])
    return {
        "format": "ocr",
        "annotations": write_lines(root / "ocr.jsonl", rows),
        "images": images,
    }


WRITERS: dict[str, Callable[..., dict[str, Any]]] = {
    "coco_karpathy": write_karpathy,
    "seed_bench": write_seed_bench,
    "mmbench": write_mmbench,
    "pope": write_pope,
    "vqav2": write_vqav2,
    "refcoco": write_refcoco,
    "refs": write_refs,
    "mini_imagenet": write_mini_imagenet,
    "imagenet": write_imagenet,
    "ocr": write_ocr,
}
"""`refs` is the other form of `refcoco`."""
