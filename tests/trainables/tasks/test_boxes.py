"""Boxes as MLLMs write them, against transformers and closed forms."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou
from transformers.models.kosmos2.processing_kosmos2 import (
    extract_entities_with_patch_indices,
    patch_index_to_coordinate,
)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from trainables.tasks import TASKS
from trainables.tasks.common.box_formats import parse_box

SIZE = 448
_Unit = tuple[float, float, float, float]


def _kosmos2(box: _Unit) -> str:
    x0, y0, x1, y1 = (min(int(value * 32), 31) for value in box)
    marks = f"<patch_index_{y0 * 32 + x0:04d}><patch_index_{y1 * 32 + x1:04d}>"
    return f"<grounding><phrase> the dog</phrase><object>{marks}</object>"


def _qwen25(box: _Unit) -> str:
    _, side = smart_resize(SIZE, SIZE)
    found = json.dumps([{"bbox_2d": [round(value * side) for value in box], "label": "dog"}])
    return f"```json\n{found}\n```"


def _thousand(box: _Unit) -> list[int]:
    return [round(1000 * value) for value in box]


# How each is written, and how far (in the unit of the image's side) it may be from the truth.
WRITTEN: dict[str, tuple[Callable[[_Unit], str], float]] = {
    "shikra": (lambda b: f"The dog [{','.join(f'{v:.3f}' for v in b)}].", 5e-4),
    "kosmos2": (_kosmos2, 0.5 / 32 + 1e-9),
    "paligemma": (
        lambda b: "".join(f"<loc{round(1024 * b[i]):04d}>" for i in (1, 0, 3, 2)) + " dog",
        0.5 / 1024,
    ),
    "qwen": (
        lambda b: "<ref>dog</ref><box>({},{}),({},{})</box>".format(*_thousand(b)),
        5e-4,
    ),
    "qwen2.5": (_qwen25, 0.5 / SIZE),
    "internvl": (lambda b: f"<ref>dog</ref><box>[{_thousand(b)}]</box>", 5e-4),
}


@pytest.mark.parametrize("form", WRITTEN)
def test_what_is_written_is_read(form: str) -> None:
    write, tolerance = WRITTEN[form]
    rng = np.random.default_rng(0)
    for _ in range(50):
        # Not within one cell of the coarsest grid.
        x0, y0 = rng.uniform(0, 0.6, 2)
        box = (x0, y0, x0 + rng.uniform(0.1, 0.39), y0 + rng.uniform(0.1, 0.39))
        found = parse_box(write(box), SIZE, form)
        assert found is not None
        np.testing.assert_allclose(np.array(found) / SIZE, box, atol=tolerance)


def test_kosmos2s_cells_are_those_of_transformers() -> None:
    rng = np.random.default_rng(1)
    pairs = [*rng.integers(0, 1024, (200, 2)).tolist(), [37, 37], [37, 40], [37, 37 + 64]]
    for upper, lower in pairs:
        answer = f"<phrase> x</phrase><object><patch_index_{upper:04d}><patch_index_{lower:04d}>"
        expected = np.array(patch_index_to_coordinate(upper, lower, 32)) * SIZE
        found = parse_box(answer, SIZE, "kosmos2")
        if expected[0] < expected[2] and expected[1] < expected[3]:
            np.testing.assert_allclose(found, expected)
        else:
            assert found is None
        entities = extract_entities_with_patch_indices(f"{answer}</object>")
        assert entities[0][2] == [(upper, lower)]


@pytest.mark.parametrize("side", [224, 256, 336, 448, 500])
def test_qwen25s_pixels_are_those_of_its_own_resize(side: int) -> None:
    height, width = smart_resize(side, side)
    assert height == width
    answer = json.dumps({"bbox_2d": [0, 0, width // 2, width]})
    assert parse_box(answer, side, "qwen2.5") == pytest.approx((0, 0, side / 2, side))


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize(
    "answer",
    ["", "no", "[0.1,0.2,0.3]", "[a,b,c,d]", "(1,2)", "<loc0001>", "<patch_index_0001>"],
)
def test_what_is_no_box_is_none(form: str, answer: str) -> None:
    assert parse_box(answer, SIZE, form) is None


@pytest.mark.parametrize(
    ("form", "answer"),
    [
        ("shikra", "[0.5,0.5,0.5,0.9]"),
        ("shikra", "[0.9,0.1,0.5,0.9]"),
        ("qwen", "(500,500),(400,900)"),
        ("paligemma", "<loc0500><loc0500><loc0400><loc0900>"),
        ("kosmos2", "<patch_index_0100><patch_index_0002>"),
        ("kosmos2", "<patch_index_2000><patch_index_2001>"),
    ],
)
def test_boxes_without_an_area_are_none(form: str, answer: str) -> None:
    assert parse_box(answer, SIZE, form) is None


def test_the_first_box_counts() -> None:
    answer = "[0.0,0.0,0.5,0.5] or [0.5,0.5,1.0,1.0]"
    assert parse_box(answer, 100, "shikra") == (0, 0, 50, 50)


def test_accuracy_is_the_share_of_boxes_with_an_iou_of_one_half() -> None:
    rng = np.random.default_rng(2)
    corner = rng.uniform(0, 0.5, (300, 2))
    truth = np.concatenate([corner, corner + rng.uniform(0.2, 0.5, (300, 2))], 1)
    guess = truth + rng.normal(0, 0.06, truth.shape)
    guess[:, 2:] = np.maximum(guess[:, 2:], guess[:, :2] + 0.01)
    answers = [f"[{','.join(f'{v:.6f}' for v in box)}]" for box in guess]
    references = [
        json.dumps({"box": (box * SIZE).tolist(), "size": SIZE, "format": "shikra"})
        for box in truth
    ]
    found = TASKS.get("grounding").score(answers, references)["accuracy@0.5"]
    ious = box_iou(torch.tensor(guess), torch.tensor(truth)).diagonal().numpy()
    clear = np.abs(ious - 0.5) > 1e-4
    np.testing.assert_array_equal(found[clear], ious[clear] >= 0.5)
    assert 0.2 < found.mean() < 0.9
