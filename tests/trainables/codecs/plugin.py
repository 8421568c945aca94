"""Distributions of third parties with codecs, as if they were installed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from search_spaces.specs.codec import CODECS

STRIDED = {
    "strided-8": "tests.trainables.codecs.strided_settings:Stride8",
    "strided-32": "tests.trainables.codecs.strided_settings:Stride32",
}


@contextmanager
def installed(
    directory: Path, codecs: Mapping[str, str] = STRIDED, version: str = "1.5"
) -> Iterator[None]:
    """A distribution `strided` whose entry points are name -> object reference."""
    about = directory / f"strided-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: strided\nVersion: {version}\n")
    points = "".join(f"{name} = {reference}\n" for name, reference in codecs.items())
    (about / "entry_points.txt").write_text(f"[bridgesweep.codecs]\n{points}")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(directory))
        CODECS.forget()
        try:
            yield
        finally:
            patch.undo()
            CODECS.forget()
