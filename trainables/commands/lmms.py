"""Tasks of lmms-eval with codec and bridge in front of the MLLM, and bpp beside the score.

    images of a task --fit--> square --codec, bridge--> MLLM --> answers --> the task's own metrics
                                            +--> bits ----------------------> bpp

    python -m trainables.commands.lmms SWEEP POINT --tasks mme [--include-path DIR] [--limit 8]
    lmms-eval --model bridgesweep --model_args sweep=SWEEP,point=POINT,rates=bpp.json --tasks mme

SWEEP is the directory of a sweep (`<storage>/<sweep>`), POINT the `point_key` of one of its
operating points, or its beginning. The first command prints lmms-eval's table with bpp in it; the
second is lmms-eval's own, which knows no bpp, so it is written to a file.

An extra (`pip install ".[lmms]"`); nothing else here imports lmms-eval. Tasks whose answers are
generated, greedily or by beam search; others are refused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from search_spaces import OperatingPoint
from trainables.datasets.images.decode import fit, pad
from trainables.datasets.tensors import Pixels
from trainables.encoders.load import load_tower
from trainables.evaluation.finished_points import Finished, finished
from trainables.evaluation.image_pass import Clock, Eye, batches
from trainables.evaluation.loaded_models import PRECISIONS
from trainables.evaluation.teacher_features import KnownTeacher
from trainables.mllms import Mllm
from trainables.mllms.prompts import PLACEHOLDER
from trainables.points.building import complete_encoder
from trainables.points.contract import load_point

if TYPE_CHECKING or find_spec("lmms_eval") is None:
    _Lmms: Any = object
else:
    from lmms_eval.api.model import lmms as _Lmms

NAME = "bridgesweep"
FITS = {"crop": fit, "pad": pad}
MAX_NEW_TOKENS = 128
"""Where a task does not say."""


class LmmsError(ValueError):
    """What was asked for is not there, or cannot be done; the message has a line per mistake."""


def manifest() -> Any:
    """What lmms-eval's registry wants to know; its entry point."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(NAME, simple_class_path=f"{__name__}.Bridged")


class Bridged(_Lmms):  # type: ignore[misc]
    """An operating point of a sweep and an MLLM, as a model of lmms-eval.

    Args:
        sweep: directory of the sweep, on this machine.
        point: key of a finished operating point, or its beginning.
        mllm: who answers; empty for the sweep's first.
        fit: how an image becomes the square that the sweep's codecs are trained for: `pad` keeps
            all of it, `crop` its centre.
        batch_size: prompts per generation batch.
        device: where models run.
        rates: a JSON file to write bits to: task -> bpp, samples.

    Attributes:
        bpp: of every answered sample, by task and number: the mean of its images, in bits per pixel
            of the square.

    Raises:
        LmmsError: no such sweep, point or MLLM.
    """

    is_simple = True

    def __init__(
        self,
        sweep: str,
        point: str,
        mllm: str = "",
        fit: str = "pad",
        batch_size: int | str = 1,
        device: str = "cpu",
        rates: str | None = None,
    ) -> None:
        super().__init__()
        chosen = find_point(Path(sweep), str(point))
        space = chosen.space
        if not mllm and not space.mllms:
            raise LmmsError(f"{sweep} has no MLLM: name one (mllm)")
        if fit not in FITS:
            raise LmmsError(f"fit = {fit!r}: valid are {', '.join(FITS)}")
        where = torch.device(device)
        how, self._size, self._fit = space.evaluation, space.data.size, FITS[fit]
        self.label = chosen.point.label
        self._mllm = Mllm.load(mllm or space.mllms[0].model, PRECISIONS[how.precision], how.beams)
        self._mllm.to(where)
        self._beams, self._batch_size = how.beams, int(batch_size)
        tower = load_tower(space.teacher.model)
        model = load_point(space, chosen.point, chosen.codec_dir, chosen.point_dir, tower).to(where)
        teacher = KnownTeacher(complete_encoder(space, tower).to(where), False, False)
        self._eye = Eye(model, teacher, False, False, self._mllm, None, where, Clock())
        self._rates = None if rates is None else Path(rates)
        self.bpp: dict[str, dict[int, float]] = defaultdict(dict)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answers, each up to the task's stop words."""
        asked = [_Asked(self.task_dict, request.args) for request in requests]
        squares = [
            [np.asarray(self._fit(image.convert("RGB"), self._size)) for image in one.images()]
            for one in asked
        ]
        names = [[_name(square) for square in own] for own in squares]
        known = self._see(dict(zip(_flat(names), _flat(squares), strict=True)))
        answers = [""] * len(asked)
        groups: dict[int, list[int]] = defaultdict(list)
        for place, one in enumerate(asked):
            groups[one.max_new_tokens(self._beams)].append(place)
        for tokens, places in groups.items():
            prompts = [asked[i].prompt(len(names[i])) for i in places]
            seen = [[known[name][0] for name in names[i]] for i in places]
            said = self._mllm.answer(prompts, seen, tokens, self._batch_size)
            for i, text in zip(places, said, strict=True):
                answers[i] = asked[i].cut(text)
        for one, own in zip(asked, names, strict=True):
            if own:
                self.bpp[one.task][one.number] = float(np.mean([known[name][1] for name in own]))
        if self._rates is not None:
            self._rates.write_text(json.dumps(self.rates(), indent=1) + "\n", encoding="utf-8")
        return answers

    def loglikelihood(self, requests: Sequence[Any]) -> Any:
        """Not offered."""
        raise LmmsError(f"{NAME} answers tasks of output_type generate_until alone")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> Any:
        """Not offered."""
        raise LmmsError(f"{NAME} answers tasks of output_type generate_until alone")

    def rates(self) -> dict[str, dict[str, float]]:
        """Of every task: `bpp`, the mean over its samples with images, and how many `samples`."""
        return {
            task: {"bpp": float(np.mean(list(own.values()))), "samples": len(own)}
            for task, own in self.bpp.items()
        }

    def _see(self, squares: Mapping[str, Pixels]) -> dict[str, tuple[Tensor, float]]:
        """What the MLLM sees of images, and their bpp; each is coded once."""
        seen = [one for batch in batches(squares.items()) for one in self._eye.see(batch)]
        return {one.rate.image_id: (one.features, one.rate.bpp) for one in seen}


class _Asked:
    """A request of lmms-eval."""

    def __init__(self, tasks: Mapping[str, Any], args: tuple[Any, ...]) -> None:
        self._context, self._how, self._visual, self.number, self.task, split = args
        self._doc = tasks[self.task][split][self.number]

    def images(self) -> list[Any]:
        """Its images (Pillow)."""
        found = self._visual(self._doc) or []
        wrong = [one for one in found if not hasattr(one, "convert")]
        if wrong:
            raise LmmsError(f"{self.task}: {type(wrong[0]).__name__} is no image")
        return list(found)

    def prompt(self, images: int) -> str:
        """With a placeholder per image, in front of it unless the task places them itself."""
        if PLACEHOLDER in self._context or not images:
            return str(self._context)
        return " ".join([PLACEHOLDER] * images) + f"\n{self._context}"

    def max_new_tokens(self, beams: int) -> int:
        """How long the answer may be.

        Raises:
            LmmsError: the task samples, or wants another search.
        """
        if self._how.get("do_sample") or float(self._how.get("temperature") or 0) > 0:
            raise LmmsError(f"{self.task} samples its answers; {NAME} does not")
        if int(self._how.get("num_beams") or 1) not in (1, beams):
            raise LmmsError(
                f"{self.task} wants {self._how['num_beams']} beams; the sweep's "
                f"evaluation.beams is {beams}"
            )
        return int(self._how.get("max_new_tokens") or MAX_NEW_TOKENS)

    def cut(self, text: str) -> str:
        """The answer up to the first of the task's stop words."""
        until = self._how.get("until") or []
        for stop in [until] if isinstance(until, str) else until:
            text = text.split(stop)[0] if stop else text
        return text


def find_point(sweep: Path, key: str) -> Finished:
    """A finished operating point of a sweep.

    Args:
        key: its `point_key`, or the beginning of it.

    Raises:
        LmmsError: no sweep there, or not one such point; the message lists those there are.
    """
    lost: dict[OperatingPoint, str] = {}
    try:
        there = {one.point_dir.name: one for one in finished(sweep, lost)}
    except ValueError as error:
        raise LmmsError(str(error)) from error
    fitting = [found for found in there if found.startswith(key)]
    if len(fitting) != 1:
        listed = "\n".join(f"{found}  {one.point.label}" for found, one in there.items())
        raise LmmsError(f"point = {key!r}: {len(fitting)} points begin so; there are\n{listed}")
    return there[fitting[0]]


def _name(square: Pixels) -> str:
    return hashlib.sha256(square.tobytes()).hexdigest()


def _flat(nested: Iterable[Iterable[Any]]) -> list[Any]:
    return [one for own in nested for one in own]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m trainables.commands.lmms",
        description="Tasks of lmms-eval on an operating point of a sweep: score and bpp.",
    )
    parser.add_argument("sweep", help="the sweep's directory, <storage>/<sweep>")
    parser.add_argument("point", help="point_key of the operating point, or its beginning")
    parser.add_argument("--tasks", required=True, help="names, with commas between")
    parser.add_argument("--include-path", help="a directory of further tasks")
    parser.add_argument("--mllm", default="", help="default: the sweep's first")
    parser.add_argument("--fit", default="pad", choices=FITS, help="default: pad")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=int, help="samples per task, to try it out")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    options = parser.parse_args(argv)
    if find_spec("lmms_eval") is None:
        print('error: lmms-eval is not installed: pip install ".[lmms]"', file=sys.stderr)
        return 2
    try:
        results = _evaluate(options)
    except LmmsError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    from lmms_eval.utils import make_table

    if options.out is not None:
        kept = {name: results[name] for name in ("results", "n-samples")}
        text = json.dumps({"point": results["point"], **kept}, indent=1, default=str)
        options.out.write_text(text + "\n", encoding="utf-8")
    print(results["point"])
    print(make_table(results))
    return 0


def _evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """lmms-eval's results, with `bpp` among each task's metrics."""
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    model = Bridged(
        options.sweep, options.point, options.mllm, options.fit, options.batch_size, options.device
    )
    tasks, manager = options.tasks.split(","), TaskManager(include_path=options.include_path)
    unknown = [name for name in tasks if name not in manager.all_tasks]
    if unknown:
        raise LmmsError(f"--tasks: lmms-eval knows no task {', '.join(unknown)}")
    found: dict[str, Any] = simple_evaluate(
        model=model,
        tasks=tasks,
        task_manager=manager,
        batch_size=options.batch_size,
        limit=options.limit,
        log_samples=False,
    )
    for task, rate in model.rates().items():
        found["results"][task]["bpp,none"] = rate["bpp"]
        found["higher_is_better"].setdefault(task, {})["bpp"] = False
    return {**found, "point": model.label}


if __name__ == "__main__":
    sys.exit(main())
