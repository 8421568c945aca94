"""An MLLM that reads crops: each view is coded as an image of its own, and all bits are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tests.trainables.mllms.test_mllm import saved, together
from tests.trainables.small import codec_spec
from tests.trainables.tiny_mllms import SIDE
from trainables.codecs import Codec, build_codec
from trainables.datasets.tensors import to_tensor
from trainables.encoders.bridge import Entry
from trainables.encoders.partial_encoder import PartialEncoder, Teacher
from trainables.encoders.tower import Tower
from trainables.evaluation.image_pass import Clock, CodedImage, ImagePass
from trainables.evaluation.teacher_features import KnownTeacher
from trainables.mllms import Mllm
from trainables.networks.neck import TransformNeck
from trainables.points.models import BridgedPoint, DecodedPoint, PointModel
from trainables.scenarios.classical import ImageFiles
from trainables.scenarios.uncompressed import OriginalImage
from trainables.standards.files import ClassicalCodec

HEIGHT, WIDTH = 96, 72
"""Cut into a base view and two by two crops."""
CPU = torch.device("cpu")


class Setting:
    """A crop-reading MLLM whose tower is the teacher, and a codec and a neck, all untrained."""

    def __init__(self, root: Path) -> None:
        self.mllm, self.processor = saved("LLaVA-NeXT", root, torch.float32, beams=1)
        assert isinstance(self.mllm, Mllm)
        self.tower = Tower(self.mllm.tower, self.mllm.preprocess)  # type: ignore[arg-type]
        torch.manual_seed(0)
        codec = build_codec(codec_spec())
        with torch.no_grad():
            # Fresh weights code nothing but zeros.
            codec.net.g_a[-1].weight.mul_(40)
        codec.eval().update()
        self.codec: Codec = codec
        self.neck = TransformNeck(codec.M, self.tower.sizes).eval()
        levels = np.random.default_rng(0).integers(0, 256, (2, 12, 9, 3), dtype=np.uint8)
        shapes = [Image.fromarray(pixels).resize((WIDTH, HEIGHT)) for pixels in levels]
        self.images: list[NDArray[np.uint8]] = [np.array(pixels) for pixels in shapes]

    def coded(self, model: PointModel) -> list[CodedImage]:
        known = KnownTeacher(Teacher(self.tower), False, True)
        image_pass = ImagePass(model, known, self.mllm, None, CPU, Clock(CPU))
        return image_pass.run([(str(n), image) for n, image in enumerate(self.images)])

    def views(self, image: NDArray[np.uint8]) -> list[Tensor]:
        """(1, 3, S, S) each."""
        return [to_tensor([view]) for view in self.mllm.views(image)]

    def looked(self, given: list[Tensor], block: int | None) -> Tensor:
        (features,) = self.mllm.look(Entry(torch.cat(given), block), (HEIGHT, WIDTH))
        return features


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(tmp_path_factory.mktemp("crops"))


@torch.no_grad()
def test_every_view_is_written_read_and_bridged_alone(setting: Setting) -> None:
    codec, neck = setting.codec, setting.neck
    model = BridgedPoint(PartialEncoder(setting.tower, 2), codec, neck)
    for seen, image in zip(setting.coded(model), setting.images, strict=True):
        views = setting.views(image)
        assert len(views) == 5
        assert all(view.shape == (1, 3, SIDE, SIDE) for view in views)
        streams = [codec.encode(view)[0] for view in views]
        assert len(set(streams)) == 5
        assert seen.rate.n_bytes == sum(map(len, streams))
        assert seen.rate.bpp == pytest.approx(8 * sum(map(len, streams)) / (HEIGHT * WIDTH))
        assert seen.rate.overhead_bytes > 5
        bits = sum(codec.encode_and_estimate(view)[1].item() for view in views)
        assert seen.rate.bpp_estimated == pytest.approx(bits / (HEIGHT * WIDTH))
        # A side of 32 is padded to 64, of whose latents two by two are the image's.
        latents = [codec.decode([stream]) for stream in streams]
        assert latents[0].shape[-2:] == (4, 4)
        tokens = [neck(y_hat[..., :2, :2]) for y_hat in latents]
        torch.testing.assert_close(seen.features, setting.looked(tokens, 2), atol=1e-5, rtol=1e-5)
        partial, teacher = PartialEncoder(setting.tower, 2), Teacher(setting.tower)
        errors = []
        for token, view in zip(tokens, views, strict=True):
            student_tokens, teacher_tokens = (
                partial(token, False).tokens,
                teacher(view, False).tokens,
            )
            assert student_tokens is not None
            assert teacher_tokens is not None
            errors.append((student_tokens - teacher_tokens).square().mean())
        assert seen.rate.tokens == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)


@torch.no_grad()
def test_baselines_take_the_path_of_their_views(setting: Setting, tmp_path: Path) -> None:
    teacher, files = Teacher(setting.tower), ClassicalCodec("jpeg", 40)
    uncompressed = setting.coded(OriginalImage(teacher))
    decoded = setting.coded(DecodedPoint(teacher, setting.codec))
    jpeg = setting.coded(ImageFiles(teacher, files))
    for number, image in enumerate(setting.images):
        views, pixels = setting.views(image), HEIGHT * WIDTH
        inputs = together(setting.mllm, setting.processor, Image.fromarray(image), "w7")
        expected = setting.mllm.model.get_image_features(
            inputs["pixel_values"], inputs["image_sizes"]
        )
        seen = uncompressed[number]
        torch.testing.assert_close(seen.features, expected.pooler_output[0], atol=1e-4, rtol=1e-4)
        assert seen.rate.bpp == pytest.approx(24 * 5 * SIDE**2 / pixels)

        streams = [setting.codec.encode(view)[0] for view in views]
        x_hat = [setting.codec.synthesis(setting.codec.decode([s]), (SIDE, SIDE)) for s in streams]
        seen = decoded[number]
        torch.testing.assert_close(seen.features, setting.looked(x_hat, None), atol=1e-4, rtol=1e-4)
        assert seen.rate.n_bytes == sum(map(len, streams))
        psnr = [-10 * (a - b).square().mean().log10() for a, b in zip(x_hat, views, strict=True)]
        assert seen.rate.psnr == pytest.approx(torch.stack(psnr).mean().item(), abs=1e-3)

        written = [files.encode(view) for view in setting.mllm.views(image)]
        seen = jpeg[number]
        read = [to_tensor([files.decode(data)]) for data in written]
        torch.testing.assert_close(seen.features, setting.looked(read, None), atol=1e-4, rtol=1e-4)
        assert seen.rate.n_bytes == sum(map(len, written))


def test_images_of_other_sizes_take_other_numbers_of_positions(setting: Setting) -> None:
    """The placeholders of each prompt are those that the processor makes for its image."""
    mllm = setting.mllm
    features = []
    for height, width in ((SIDE, SIDE), (HEIGHT, WIDTH), (SIDE, 3 * SIDE)):
        image = np.full((height, width, 3), 90, np.uint8)
        (seen,) = mllm.look(Entry(torch.cat(setting.views(image)), None), (height, width))
        inputs = together(mllm, setting.processor, Image.fromarray(image), "w7")
        assert len(seen) == int((inputs["input_ids"] == mllm.model.config.image_token_id).sum())
        features.append(seen)
    answers = mllm.answer(
        ["<image> w5"] * 3, [[of_image] for of_image in features], 3, batch_size=3
    )
    assert len(answers) == 3
    assert len({len(of_image) for of_image in features}) == 3
