"""The lines of docs/ that bridge an MLLM from someone else's repository, run as they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from search_spaces import operating_points
from tests.trainables.small import BLOCKS, WIDTH, codec_spec, make_clip, make_space, save_teacher
from trainables.codecs import build_codec, save_codec
from trainables.encoders.bridge import parts_of
from trainables.encoders.tower import Tower
from trainables.evaluation.finished_points import load_finished
from trainables.points.building import build_neck
from trainables.points.models import BridgedPoint
from trainables.points.weights import save_trained

PAGE = Path(__file__).parents[3] / "docs" / "mllms-benchmarks.md"


def lines() -> str:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    found = [block for block in blocks if "load_finished" in block]
    return str(found[0])


class Elsewhere(nn.Module):
    """An MLLM on an open_clip tower, whose code knows nothing of bridges."""

    def __init__(self) -> None:
        super().__init__()
        from open_clip.transformer import VisionTransformer

        self.visual = VisionTransformer(56, 14, WIDTH, BLOCKS, 2, 2.0, output_tokens=True)

    def generate(self, pixels: Tensor, prompt: str) -> str:
        pooled, tokens = self.visual(pixels)
        return f"{prompt} {tokens.sum().item()} {pooled.sum().item()}"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep's directory with a d1 point, its codec and neck untrained."""
    root = tmp_path_factory.mktemp("storage")
    save_teacher(root / "teacher")
    space = make_space(root / "teacher", neck={"init": "random"})
    torch.manual_seed(0)
    codec = build_codec(codec_spec())
    with torch.no_grad():
        codec.net.g_a[-1].weight.mul_(40)
    neck = build_neck(space, codec_spec(), Tower(make_clip()))
    points = [one for one in operating_points(space) if one.scenario == "d1"]
    keys = {f"key{number}": one for number, one in enumerate(points)}
    for key in keys:
        base, own = root / "stages/codec" / f"base-{key}", root / "stages/point" / key
        for directory in (base, own):
            directory.mkdir(parents=True)
        save_codec(codec, base)
        save_trained({f"neck.{n}": v for n, v in neck.state_dict().items()}, own)
        (base / "manifest.json").write_text("{}")
        (own / "manifest.json").write_text(json.dumps({"inputs": ["other", base.name]}))
    said = {
        "space": space.model_dump(mode="json"),
        "expected": [{"point_key": key, **one.fields} for key, one in keys.items()],
        "points": {key: {} for key in keys},
    }
    (root / "demo").mkdir()
    (root / "demo" / "sweep.json").write_text(json.dumps(said))
    return root / "demo"


def test_the_readmes_lines_bridge_a_model_from_elsewhere(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("open_clip", reason="open_clip is not installed")
    model = Elsewhere().eval()
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    pixels = torch.zeros(1, 3, 56, 56)
    lmbda = codec_spec().lambdas[0]
    text = re.sub(r"load_finished\([^)]*\)", "load_finished(SWEEP, 'scenario=d1', LMBDA)", lines())
    assert len(text.strip().splitlines()) <= 10
    given: dict[str, Any] = {"model": model, "image": image, "pixels": pixels, "prompt": "What?"}
    given |= {"SWEEP": sweep, "LMBDA": f"lmbda={lmbda}"}
    with torch.no_grad():
        exec(text, given)
    answer, bpp = capsys.readouterr().out.strip().rsplit(" ", 2)[:2]

    # By hand: the neck's tokens through the tower's blocks from k on, then what follows them.
    point = load_finished(sweep, "scenario=d1", f"lmbda={lmbda}")
    assert isinstance(point, BridgedPoint)
    (stream,) = point.codec.encode(image)
    with torch.no_grad():
        hidden = point.neck(point.codec.decode([stream]))
        for block in list(parts_of(model.visual).blocks)[2:]:
            hidden = block(hidden)
        normed = model.visual.ln_post(hidden)
        pooled, tokens = normed[:, 0] @ model.visual.proj, normed[:, 1:]
    question, *numbers = answer.split()
    assert question == "What?"
    expected = [tokens.sum().item(), pooled.sum().item()]
    assert [float(n) for n in numbers] == pytest.approx(expected, rel=1e-4)
    assert float(bpp) == pytest.approx(8 * len(stream) / 64**2)
    assert model.generate(pixels, "What?") != answer, "the model is as it was"


def test_a_point_is_named_exactly(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no sweep\.json"):
        load_finished(tmp_path)
    with pytest.raises(ValueError, match="d2"):
        load_finished(sweep, "scenario=d2")
