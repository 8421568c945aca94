"""A distribution of a third party with codecs, as if it were installed."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from tests.trainables import distributions

STRIDED = {
    "strided-8": "tests.trainables.codecs.strided_settings:Stride8",
    "strided-32": "tests.trainables.codecs.strided_settings:Stride32",
}


def installed(
    directory: Path, codecs: Mapping[str, str] = STRIDED, version: str = "1.5"
) -> AbstractContextManager[None]:
    """A distribution `strided` whose entry points are name -> object reference."""
    points = "".join(f"{name} = {reference}\n" for name, reference in codecs.items())
    entry_points = f"[bridgesweep.codecs]\n{points}"
    return distributions.installed(directory, "strided", {}, entry_points, version)
