"""Tasks of lmms-eval with codec and bridge in front of the MLLM, and bpp beside the score.

    images of a task --fit--> square --codec, bridge--> MLLM --> answers --> the task's own metrics
                                            +--> bits ----------------------> bpp

    python -m trainables.commands.lmms SWEEP POINT --tasks mme [--include-path DIR] [--limit 8]
    lmms-eval --model bridgesweep --model_args sweep=SWEEP,point=POINT,rates=bpp.json --tasks mme

SWEEP is the directory of a sweep (`<storage>/<sweep>`), POINT the `point_key` of one of its
operating points, or its beginning. The first command prints lmms-eval's table with bpp in it; the
second is lmms-eval's own, whose table has no bpp, so bpp is written to a file.

lmms-eval is an extra (`pip install ".[lmms]"`); no other module imports it. Tasks with generated
answers, greedily or by beam search, are supported; other tasks are refused.
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

from search_spaces import OperatingPoint
from trainables.commands.errors import refuse
from trainables.commands.lmms_request import NAME, LmmsError, LmmsRequest
from trainables.datasets.arrays import Pixels
from trainables.datasets.images.decode import fit, pad
from trainables.datasets.images.files import write_json
from trainables.encoders.load import load_tower
from trainables.evaluation.finished_points import finished
from trainables.evaluation.image_pass import Clock, CodedImage, ImagePass, batches
from trainables.evaluation.loaded_models import PRECISIONS
from trainables.evaluation.teacher_features import KnownTeacher
from trainables.mllms import Mllm
from trainables.points.building import complete_encoder
from trainables.points.contract import Finished, load_point

if TYPE_CHECKING or find_spec("lmms_eval") is None:
    _Lmms: Any = object
else:
    from lmms_eval.api.model import lmms as _Lmms

FITS = {"crop": fit, "pad": pad}


def manifest() -> Any:
    """The entry point for lmms-eval's registry of models."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(NAME, simple_class_path=f"{__name__}.Bridged")


class Bridged(_Lmms):  # type: ignore[misc]
    """An operating point of a sweep and an MLLM, as a model of lmms-eval.

    Args:
        sweep: directory of the sweep, on this machine.
        point: key of a finished operating point, or its beginning.
        mllm: the MLLM that answers; empty for the sweep's first.
        fit: how an image becomes a square of the size that the sweep's codecs are trained for:
            `pad` keeps the whole image, `crop` its centre.
        batch_size: prompts per generation batch.
        device: where models run.
        rates: a JSON file for the rates: task -> bpp, samples.

    Attributes:
        bpp: of every answered sample, by task and number: the mean over its images, in bits per
            pixel of the square.

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
            raise LmmsError(f"mllm is empty and {sweep} has no MLLM: name one")
        if fit not in FITS:
            raise LmmsError(f"fit = {fit!r}: valid are {', '.join(FITS)}")
        target = torch.device(device)
        evaluation, self._size, self._fit = space.evaluation, space.data.size, FITS[fit]
        self.label = chosen.point.label
        precision, self._beams = PRECISIONS[evaluation.precision], evaluation.beams
        self._mllm = Mllm.load(mllm or space.mllms[0].model, precision, self._beams).to(target)
        self._batch_size = int(batch_size)
        tower = load_tower(space.teacher.model)
        model = load_point(space, chosen.point, chosen.codec_dir, chosen.point_dir, tower)
        teacher = KnownTeacher(complete_encoder(space, tower).to(target), False, False)
        self._image_pass = ImagePass(
            model.to(target), teacher, self._mllm, None, target, Clock(target)
        )
        self._rates = None if rates is None else Path(rates)
        self.bpp: dict[str, dict[int, float]] = defaultdict(dict)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answers, each up to the task's stop words."""
        asked = [LmmsRequest(self.task_dict, request.args) for request in requests]
        squares = [
            [np.asarray(self._fit(image.convert("RGB"), self._size)) for image in request.images()]
            for request in asked
        ]
        names = [[_name(square) for square in of_request] for of_request in squares]
        coded = self._coded_images(dict(zip(_flat(names), _flat(squares), strict=True)))
        answers = [""] * len(asked)
        groups: dict[int, list[int]] = defaultdict(list)
        for index, request in enumerate(asked):
            groups[request.max_new_tokens(self._beams)].append(index)
        for tokens, places in groups.items():
            prompts = [asked[i].prompt(len(names[i])) for i in places]
            features = [[coded[name].features for name in names[i]] for i in places]
            texts = self._mllm.answer(prompts, features, tokens, self._batch_size)
            for i, text in zip(places, texts, strict=True):
                answers[i] = asked[i].cut(text)
        for request, of_request in zip(asked, names, strict=True):
            if of_request:
                bpp = float(np.mean([coded[name].rate.bpp for name in of_request]))
                self.bpp[request.task][request.number] = bpp
        if self._rates is not None:
            write_json(self._rates, self.rates())
        return answers

    def loglikelihood(self, requests: Sequence[Any]) -> Any:
        """Raise `LmmsError`: only generated answers are supported."""
        raise LmmsError(f"{NAME} answers only tasks of output_type generate_until")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> Any:
        """Raise `LmmsError`: only generated answers are supported."""
        raise LmmsError(f"{NAME} answers only tasks of output_type generate_until")

    def rates(self) -> dict[str, dict[str, float]]:
        """By task: `bpp`, a mean over samples with images, and the number of these `samples`."""
        return {
            task: {"bpp": float(np.mean(list(bpp.values()))), "samples": len(bpp)}
            for task, bpp in self.bpp.items()
        }

    def _coded_images(self, squares: Mapping[str, Pixels]) -> dict[str, CodedImage]:
        """The MLLM's features and the rates of images by name; each image is coded once."""
        return {
            image.rate.image_id: image
            for batch in batches(squares.items())
            for image in self._image_pass.run(batch)
        }


def find_point(sweep: Path, key: str) -> Finished:
    """Find a finished operating point of a sweep.

    Args:
        sweep: the sweep's directory.
        key: the point's `point_key`, or its beginning.

    Raises:
        LmmsError: `sweep` is no sweep's directory, or not exactly one point fits; the message lists
            the points.
    """
    lost: dict[OperatingPoint, str] = {}
    try:
        points = {trained.key: trained for trained in finished(sweep, lost)}
    except ValueError as error:
        raise LmmsError(str(error)) from error
    fitting = [name for name in points if name.startswith(key)]
    if len(fitting) != 1:
        listed = "\n".join(f"{name}  {trained.point.label}" for name, trained in points.items())
        raise LmmsError(f"point = {key!r}: {len(fitting)} points begin so; there are\n{listed}")
    return points[fitting[0]]


def _name(square: Pixels) -> str:
    return hashlib.sha256(square.tobytes()).hexdigest()


def _flat(nested: Iterable[Iterable[Any]]) -> list[Any]:
    return [item for items in nested for item in items]


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
        return refuse('lmms-eval is not installed: pip install ".[lmms]"')
    try:
        results = _evaluate(options)
    except LmmsError as error:
        return refuse(error)
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
        raise LmmsError(f"--tasks: lmms-eval has no task {', '.join(unknown)}")
    results: dict[str, Any] = simple_evaluate(
        model=model,
        tasks=tasks,
        task_manager=manager,
        batch_size=options.batch_size,
        limit=options.limit,
        log_samples=False,
    )
    for task, rate in model.rates().items():
        results["results"][task]["bpp,none"] = rate["bpp"]
        results["higher_is_better"].setdefault(task, {})["bpp"] = False
    return {**results, "point": model.label}


if __name__ == "__main__":
    sys.exit(main())
