"""Published benchmarks: their files, which of their samples are used, and how they are asked.

| `format`        | `annotations`                             | `images`           | task          |
|-----------------|-------------------------------------------|--------------------|---------------|
| `coco_karpathy` | JSON of the Karpathy splits               | directory          | captions      |
| `seed_bench`    | JSON; its images, not its videos          | directory          | choice        |
| `mmbench`       | TSV                                       | in the file        | choice        |
| `pope`          | JSON lines                                | directory          | yes_no        |
| `vqav2`         | JSON of the answers, and `questions`      | directory          | open_vqa      |
| `refcoco`       | JSON (lines): `expression`, `bbox`,       | directory          | grounding     |
|                 | `image`; or refs, and `instances`         |                    |               |
| `mini_imagenet` | CSV: `filename`, `label`                  | directory          | fewshot_names |
| `imagenet`      | names of the classes, as in `data.names`  | a folder per class | zeroshot      |
| `ocr`           | JSON (lines): `image`, `text`             | directory          | text_reading  |
"""

from __future__ import annotations

from string import Formatter
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from search_spaces.specs.base import Positive, Spec

Format = Literal[
    "coco_karpathy",
    "seed_bench",
    "mmbench",
    "pope",
    "vqav2",
    "refcoco",
    "mini_imagenet",
    "imagenet",
    "ocr",
]
BoxFormat = Literal["shikra", "kosmos2", "paligemma", "qwen", "qwen2.5", "internvl", "loc"]
IMAGE: Final = "<image>"
"""Where an image stands in a prompt."""

_TASKS: dict[Format, str] = {
    "coco_karpathy": "captions",
    "seed_bench": "choice",
    "mmbench": "choice_circular",
    "pope": "yes_no",
    "vqav2": "open_vqa",
    "refcoco": "grounding",
    "mini_imagenet": "fewshot_names",
    "imagenet": "zeroshot",
    "ocr": "text_reading",
}
_FIELDS: dict[Format, tuple[str, ...]] = {
    "coco_karpathy": (),
    "seed_bench": ("question", "options"),
    "mmbench": ("question", "options", "hint"),
    "pope": ("question",),
    "vqav2": ("question",),
    "refcoco": ("expression",),
    "mini_imagenet": ("label",),
    "imagenet": (),
    "ocr": (),
}
_PROMPTS: dict[str, str] = {
    "coco_karpathy": "<image>\nDescribe this image in one short sentence.",
    "choice": "<image>\n{question}\n{options}\nAnswer with the letter of the right option alone.",
    "choice_circular": (
        "<image>\n{hint}{question}\n{options}\nAnswer with the letter of the right option alone."
    ),
    "seed_bench_likelihood": "<image>\n{question}\nAnswer:",
    "mmbench_likelihood": "<image>\n{hint}{question}\nAnswer:",
    "pope": "<image>\n{question}\nAnswer with yes or no.",
    "vqav2": "<image>\n{question}\nAnswer in a single word or a short phrase.",
    "mini_imagenet": "<image> This is a {label}.\n",
    "imagenet": "<image>",
    "ocr": "<image>\nWhat is written in this image? Answer with the text alone.",
    "shikra": "<image>\nGive the box [x0,y0,x1,y1] of {expression}.",
    "kosmos2": "<image><grounding><phrase> {expression}</phrase>",
    "paligemma": "<image>detect {expression}",
    "qwen": "<image>\n<ref>{expression}</ref><box>",
    "qwen2.5": '<image>\nGive the box of {expression} as JSON: {{"bbox_2d": [x0, y0, x1, y1]}}.',
    "internvl": "<image>\nGive the box [[x0, y0, x1, y1]] of <ref>{expression}</ref>.",
    "loc": "<image> where is the {expression} ?",
}
_OWN: dict[str, tuple[Format, ...]] = {
    "questions": ("vqav2",),
    "instances": ("refcoco",),
    "names": ("mini_imagenet",),
    "ways": ("mini_imagenet",),
    "shots": ("mini_imagenet",),
    "box_format": ("refcoco",),
    "boxes": ("refcoco",),
    "scoring": ("seed_bench", "mmbench"),
}
"""Settings that only some formats have."""
_SPLITS: tuple[Format, ...] = ("coco_karpathy", "seed_bench", "mmbench", "refcoco")
EPISODES: Final = 600
"""Few-shot episodes where `limit` is null."""


class BenchmarkSpec(Spec):
    """A published benchmark to measure on, besides the space's own data."""

    format: Format
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._+-]*$")] = ""
    """Its `dataset` in points; empty for its format. Letters, digits, `.`, `_`, `+` and `-`."""
    annotations: str
    """The file of the annotations, see above: a path, or a URI that fsspec knows."""
    images: str | None = None
    """The directory (or its URI) of the images. An image is found by its path there, or else by its
    name wherever it stands below; COCO's names with and without their `COCO_val2014_`."""
    questions: str | None = None
    """Of `vqav2`: the file of the questions."""
    instances: str | None = None
    """Of `refcoco`: COCO's instances JSON, where `annotations` are refs that name its boxes."""
    names: str | None = None
    """Of `mini_imagenet`: the file that names the classes, as `data.names`."""
    split: str | None = None
    """Which of the splits in `annotations`: of `coco_karpathy` (null: test), `refcoco`, `mmbench`
    (null: all); of `seed_bench` a question type (null: all of images)."""
    limit: Positive | None = None
    """How many samples are used; null for all. Of `mini_imagenet`: episodes, null for 600."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Draws the samples that `limit` leaves; null takes the first, but of `imagenet` and for the
    episodes of `mini_imagenet` means 0."""
    prompt: str | None = None
    """Template with an `<image>` per image and what the format fills in: `{question}`, `{options}`,
    `{hint}` (a line, where there is one), `{expression}`; `{label}` of `mini_imagenet`, whose
    template is repeated per image and ends before the label for the one that is asked. null: one
    written for the task."""
    scoring: Literal["letter", "likelihood"] = "letter"
    """Of multiple choice: the letter that is answered, or the likeliest of the options' texts."""
    box_format: BoxFormat = "shikra"
    """How the MLLM writes boxes. `shikra`: [x0,y0,x1,y1] in [0, 1]; `kosmos2`: two patch indices of
    a grid of 32; `paligemma`: four <loc0000> of 1024, y before x; `qwen`: (x0,y0),(x1,y1) of 1000;
    `qwen2.5`: pixels of its input; `internvl`: [[x0, y0, x1, y1]] of 1000; `loc`: the
    words of the demo's MLLM."""
    boxes: Literal["xywh", "xyxy"] = "xywh"
    """How `annotations` of `refcoco` write boxes, in pixels; those of `instances` are xywh."""
    fit: Literal["crop", "pad"] | None = None
    """How an image becomes a square of `data.size`: the shorter side resized and the centre
    cropped, as the space's own images; or the longer one resized and grey added. null: pad for
    `refcoco`, so that no box is lost, and crop for all others."""
    ways: Annotated[int, Field(ge=2)] = 5
    """Classes of an episode."""
    shots: Positive = 1
    """Labelled images per class of an episode."""

    @property
    def label(self) -> str:
        """The name in points and plots."""
        return self.name or self.format

    @property
    def task(self) -> str:
        """The task in `trainables.tasks` that scores it."""
        return "choice_likelihood" if self.scoring == "likelihood" else _TASKS[self.format]

    @property
    def template(self) -> str:
        """The prompt's template."""
        if self.prompt is not None:
            return self.prompt
        if self.format == "refcoco":
            return _PROMPTS[self.box_format]
        if self.scoring == "likelihood":
            return _PROMPTS[f"{self.format}_likelihood"]
        return _PROMPTS.get(self.task) or _PROMPTS[self.format]

    @property
    def drawn_from(self) -> int | None:
        """The seed of a part; None takes the first samples."""
        return 0 if self.seed is None and self.format == "imagenet" else self.seed

    @property
    def fitted(self) -> Literal["crop", "pad"]:
        """How an image becomes a square."""
        return self.fit or ("pad" if self.format == "refcoco" else "crop")

    @property
    def shown_split(self) -> str:
        """The split in points: the benchmark's own name of it, or `test`."""
        return self.split or "test"

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that decide what the samples are, as JSON data; files by their checksum."""
        without = {"name", "prompt", "fit", "annotations", "images", "questions", "instances"}
        without |= {"names"} | {s for s, formats in _OWN.items() if self.format not in formats}
        own = self.model_dump(mode="json", exclude=without)
        return {**own, "prompt": self.template, "fit": self.fitted}

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        for setting, formats in _OWN.items():
            default = type(self).model_fields[setting].default
            if self.format not in formats and getattr(self, setting) != default:
                problems.append(f"{setting} is no setting of format {self.format!r}")
        if self.split is not None and self.format not in _SPLITS:
            problems.append(f"split is no setting of format {self.format!r}: its file is one split")
        if self.format == "mmbench" and self.images is not None:
            problems.append("images is no setting of format 'mmbench': its file holds them")
        if self.format != "mmbench" and self.images is None:
            problems.append(f"images must be given where format is {self.format!r}")
        if self.format == "vqav2" and self.questions is None:
            problems.append("questions must be given where format is 'vqav2'")
        problems += self._prompt_problems()
        for uri in (self.annotations, self.images, self.questions, self.instances, self.names):
            user, at, _ = (uri or "").partition("://")[2].partition("/")[0].rpartition("@")
            if at and ":" in user:
                problems.append("a URI must hold no password: give it by the environment")
        if problems:
            raise ValueError("\n".join(dict.fromkeys(problems)))
        return self

    def _prompt_problems(self) -> list[str]:
        if self.prompt is None:
            return []
        said, own = f"prompt = {self.prompt!r}", _FIELDS[self.format]
        try:
            found = [name for _, name, _, _ in Formatter().parse(self.prompt) if name is not None]
        except ValueError as error:
            return [f"{said}: {error}; write {{{{ and }}}} for braces"]
        problems = []
        if self.prompt.count(IMAGE) != 1:
            problems.append(f"{said}: must hold {IMAGE} once")
        if wrong := [name for name in found if name not in own]:
            filled = ", ".join(f"{{{name}}}" for name in own) or "nothing"
            problems.append(f"{said}: no {{{wrong[0]}}} there; {self.format} fills in {filled}")
        if self.format == "mini_imagenet" and found.count("label") != 1:
            problems.append(f"{said}: must hold {{label}} once")
        return problems
