"""RefCOCO, RefCOCO+ and RefCOCOg: the boxes that expressions refer to.

boxes in it  lines {"expression", "bbox", "image" or "file_name" or "img_path", "split", "id"}
refs         [{"ref_id", "ann_id", "image_id", "file_name", "split", "sentences": [{"sent"}]}]
             with COCO's instances {"annotations": [{"id", "bbox": [x, y, w, h]}],
             "images": [{"id", "file_name"}]}

The pickles that the data set is published as are not read, as no pickle from outside is: written as
JSON, their entries are the refs.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from search_spaces.specs.benchmark import ImageDirectorySpec
from trainables.datasets.benchmarks.items import (
    Item,
    Items,
    SplitBenchmark,
    all_with,
    is_id,
    is_text,
)
from trainables.datasets.images.placement import Box, area

_IMAGE = ("image", "file_name", "img_path")

BoxFormat = Literal["shikra", "kosmos2", "paligemma", "qwen", "qwen2.5", "internvl", "loc"]
_PROMPTS: dict[BoxFormat, str] = {
    "shikra": "<image>\nGive the box [x0,y0,x1,y1] of {expression}.",
    "kosmos2": "<image><grounding><phrase> {expression}</phrase>",
    "paligemma": "<image>detect {expression}",
    "qwen": "<image>\n<ref>{expression}</ref><box>",
    "qwen2.5": '<image>\nGive the box of {expression} as JSON: {{"bbox_2d": [x0, y0, x1, y1]}}.',
    "internvl": "<image>\nGive the box [[x0, y0, x1, y1]] of <ref>{expression}</ref>.",
    "loc": "<image> where is the {expression} ?",
}


_are_sentences = all_with("sent", is_text)


class RefCocoSpec(SplitBenchmark, ImageDirectorySpec):
    """Settings of format `refcoco`."""

    default_task = "grounding"
    prompt_fields = ("expression",)
    file_settings = ("annotations", "instances")
    default_fit = "pad"

    format: Literal["refcoco"]
    instances: str | None = None
    """COCO's instances JSON, where `annotations` are refs that name its boxes."""
    box_format: BoxFormat = "shikra"
    """How the MLLM writes boxes. `shikra`: [x0,y0,x1,y1] in [0, 1]; `kosmos2`: two patch indices of
    a grid of 32; `paligemma`: four <loc0000> of 1024, y before x; `qwen`: (x0,y0),(x1,y1) of 1000;
    `qwen2.5`: pixels of its input; `internvl`: [[x0, y0, x1, y1]] of 1000; `loc`: the
    words of the demo's MLLM."""
    boxes: Literal["xywh", "xyxy"] = "xywh"
    """How `annotations` write boxes, in pixels; those of `instances` are xywh."""

    def _default_template(self) -> str:
        return _PROMPTS[self.box_format]

    def items(self) -> Items:
        """A sample per expression; the reference is {"format": how the MLLM writes boxes}."""
        rows = self.read_lines()
        rows = self.of_split(rows, [str(row.get("split", "")) for row in rows])
        return self._of_rows(rows) if self.instances is None else self._of_refs(rows)

    def _of_rows(self, rows: list[dict[str, Any]]) -> Items:
        mistakes, items = self.mistakes(), []
        for number, row in enumerate(rows):
            image = next((row[name] for name in _IMAGE if is_text(row.get(name))), None)
            box = _box(row.get("bbox"), self.boxes)
            if image is None:
                mistakes.add("no 'image', 'file_name' or 'img_path'", f"entry {number}")
            if not is_text(row.get("expression")):
                mistakes.add("no usable 'expression'", f"entry {number}")
            if box is None:
                where = f"entry {number}: {row.get('bbox')}"
                mistakes.add(f"no usable 'bbox' ({self.boxes})", where)
            if image is not None and is_text(row.get("expression")) and box is not None:
                sample = str(row.get("id", number))
                items.append(self._item(sample, image, row["expression"], box))
        mistakes.unique((item.sample_id for item in items), "id")
        mistakes.raise_any()
        return Items(items)

    def _of_refs(self, refs: list[dict[str, Any]]) -> Items:
        content, wrong = self.read_json("instances"), self.mistakes("instances")
        fields = {"id": is_id, "bbox": lambda box: _box(box, "xywh") is not None}
        boxes = wrong.complete(self.entries(content, "annotations", "instances"), fields)
        fields = {"id": is_id, "file_name": is_text}
        images = wrong.complete(self.entries(content, "images", "instances"), fields)
        wrong.unique((row["id"] for row in boxes), "id of an annotation")
        wrong.raise_any()
        by_box = {row["id"]: row["bbox"] for row in boxes}
        by_image = {row["id"]: row["file_name"] for row in images}
        mistakes, items = self.mistakes(), []
        fields = {"ref_id": is_id, "ann_id": is_id, "image_id": is_id, "sentences": _are_sentences}
        refs = mistakes.complete(refs, fields)
        mistakes.unique((ref["ref_id"] for ref in refs), "ref_id")
        for ref in refs:
            box = _box(by_box.get(ref["ann_id"]), "xywh")
            image = by_image.get(ref["image_id"])
            if box is None:
                mistakes.add("ann_id is not in instances", ref["ann_id"])
            if image is None:
                mistakes.add("image_id is not in instances", ref["image_id"])
            for number, sentence in enumerate(ref["sentences"]):
                if box is not None and image is not None:
                    sample = f"{ref['ref_id']}-{number}"
                    items.append(self._item(sample, image, sentence["sent"], box))
        mistakes.raise_any()
        return Items(items)

    def _item(self, sample: str, image: str, expression: str, box: Box) -> Item:
        prompt = self.fill(expression=expression)
        return Item(sample, (image,), prompt, {"format": self.box_format}, box)


def _box(value: Any, form: str) -> Box | None:
    """Four finite numbers that enclose something, as corners."""
    if not isinstance(value, list | tuple) or len(value) != 4:
        return None
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in value):
        return None
    a, b, c, d = map(float, value)
    box = (a, b, a + c, b + d) if form == "xywh" else (a, b, c, d)
    return box if area(box) > 0 else None


FORMAT = RefCocoSpec
