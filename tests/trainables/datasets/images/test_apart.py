"""A decoder that crashes its process, or never ends, against real child processes."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.trainables.image_folders import write_folder
from trainables.datasets.images.apart import ApartDecoder
from trainables.datasets.images.decode import UnreadableImageError, decode_png


def decode_or_crash(data: bytes, size: int) -> tuple[bytes, frozenset[str]]:
    if data == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if data == b"hang":
        time.sleep(600)
    return decode_png(data, size)


def test_an_image_that_crashes_its_decoder_is_unreadable_and_the_next_one_is_read(
    tmp_path: Path,
) -> None:
    (image,) = sorted((write_folder(tmp_path, {"jay": 1}) / "jay").iterdir())
    decode = ApartDecoder(decode_or_crash, limit_s=5)
    expected = decode_png(image.read_bytes(), 32)
    assert decode(image.read_bytes(), 32) == expected
    for data in (b"crash", b"hang"):
        with pytest.raises(UnreadableImageError, match="crashed, or did not end within 5 s"):
            decode(data, 32)
        assert decode(image.read_bytes(), 32) == expected
    with pytest.raises(UnreadableImageError, match="empty file"):
        decode(b"", 32)
    decode.close()
