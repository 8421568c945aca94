"""The provenance of operating points: code, packages, checksums of weights and data.

Imports neither torch nor Ray.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sysconfig
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final, TypedDict

from search_spaces import BenchmarkSpec, Space
from search_spaces.facts.mllm_families import FAMILIES
from search_spaces.facts.texts import template_sets
from search_spaces.plugins import plugin_versions
from search_spaces.scenarios import environments_of
from search_spaces.settings.paths import is_there, split_revision
from search_spaces.specs.data import DataSpec
from trainables.datasets.images.files import file_checksum

PACKAGES = (
    "bridgesweep",
    "torch",
    "torchvision",
    "compressai",
    "transformers",
    "safetensors",
    "ray",
    "mlflow",
    "numpy",
    "pyarrow",
    "scikit-learn",
    "pillow",
    "pycocoevalcap",
    "bjontegaard",
)
CHECKSUMS: Final = "checksums"
"""Directory of the storage, or of its cache on this machine, for `fingerprints`."""
ACCUMULATION_FACTOR = "accumulation_factor"
"""In a stage's manifest, where its training ran out of memory at first."""
COMMIT: Final = "BRIDGESWEEP_COMMIT"
"""Environment variable of an image: the commit that it was built of, `-dirty` behind it where the
tree had changes."""
_BUILT: Final = re.compile(r"([0-9a-f]{40})(-dirty)?")
_ROOT = Path(__file__).resolve().parents[2]
_SHIPPED = _ROOT / "trainables" / "shipped"
_SNAPSHOT: Final = re.compile(r".*/models--([^/]+)/snapshots/([0-9a-f]{40})/?")


class Code(TypedDict):
    """The version of this program.

    `commit` and `dirty` (whether the tree had changes) are those of a git checkout, or of what an
    image was built of and installed; None elsewhere, such as in a working directory that
    `ray job submit` copied. `source` is a checksum of the files.
    """

    commit: str | None
    dirty: bool | None
    source: str
    packages: dict[str, str]


def code() -> Code:
    """The version of this program, from its files and git."""
    commit = dirty = None
    if (_ROOT / ".git").exists():
        commit = _git("rev-parse", "HEAD")
        status = _git("status", "--porcelain")
        dirty = None if status is None else bool(status)
    elif Path(sysconfig.get_path("purelib")) == _ROOT:
        built = _BUILT.fullmatch(os.environ.get(COMMIT, ""))
        commit, dirty = (built[1], built[2] is not None) if built else (None, None)
    return {
        "commit": commit,
        "dirty": dirty,
        "source": source_checksum(),
        "packages": versions(),
    }


def source_checksum() -> str:
    """SHA-256 over the project's Python files."""
    digest = hashlib.sha256()
    for package in ("search_spaces", "trainables", "orchestrator", "analysis"):
        for file in sorted((_ROOT / package).rglob("*.py")):
            digest.update(f"{file.relative_to(_ROOT).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of the packages that can change a number, plug-ins included."""
    installed = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed | plugin_versions()


def model_names(space: Space) -> list[tuple[str, str]]:
    """(setting, name) of every model and weights name in a space and in its variants."""
    names = _model_names(space)
    for variant in space.variants:
        changed = [entry for entry in _model_names(space.of(variant)) if entry not in names]
        names += [(f"variants.{variant}: {setting}", name) for setting, name in changed]
    return names


def text_files(space: Space) -> list[tuple[str, str]]:
    """(setting, file) of every file of templates or class names in a space and its variants."""
    files = []
    for variant_space in [space.of(name) for name in space.variants] or [space]:
        surrogate = variant_space.surrogate
        if surrogate.templates not in template_sets():
            files.append(("surrogate.templates", surrogate.templates))
        if surrogate.classes is not None:
            files.append(("surrogate.classes", surrogate.classes))
    return list(dict.fromkeys(files))


def _model_names(space: Space) -> list[tuple[str, str]]:
    names = [("teacher.model", space.teacher.model)]
    names += [(f"mllms.{number}", mllm.model) for number, mllm in enumerate(space.mllms)]
    for number, codec in enumerate(space.codecs):
        weights = codec.weights
        if isinstance(weights, str):
            names.append((f"codecs.{number}.weights", weights))
        files = {"weights": weights if isinstance(weights, tuple) else ()}
        files |= {f"released.{name}": paths for name, paths in codec.released.items()}
        names += [
            (f"codecs.{number}.{setting}.{rate}", name)
            for setting, paths in files.items()
            for rate, name in enumerate(paths)
        ]
    return names


def shipped_names() -> list[str]:
    """All valid `shipped:NAME`."""
    return sorted(
        f"shipped:{path.name.removesuffix('.safetensors')}"
        for path in _SHIPPED.glob("*")
        if path.is_dir() or path.suffix == ".safetensors"
    )


def local_path(name: str) -> Path | None:
    """The file or directory that a model's name means; None for a hub id."""
    if name.startswith("shipped:"):
        path = _SHIPPED / name.removeprefix("shipped:")
        return path if is_there(path) else path.with_name(path.name + ".safetensors")
    # Paths are absolute since the space was read, so a directory that happens to stand in the
    # working directory of this process is not meant.
    path = Path(name)
    model, _ = split_revision(name)
    return path if path.is_absolute() or model.count("/") > 1 else None


@cache
def fingerprint(name: str) -> str:
    """What stands for a model's name in keys: the same for each spelling of the same files.

    Of a hub id, the id with its revision, and so of a snapshot in a cache of the hub. Of any other
    directory or file, a checksum of the contents, and of a directory's also the paths below it,
    without hidden files and notes (`*.md`), which no model is loaded from.

    Raises:
        FileNotFoundError: this machine has no such directory or file.
    """
    path = local_path(name)
    if path is None:
        return name
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or directory")
    if snapshot := _SNAPSHOT.fullmatch(path.as_posix()):
        return f"{snapshot[1].replace('--', '/', 1)}@{snapshot[2]}"
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        part = "" if file == path else file.relative_to(path).as_posix()
        is_hidden = "/." in f"/{part}"
        if file.is_file() and not is_hidden and file.suffix != ".md":
            digest.update(f"{part}\0{file_checksum(file)}\n".encode())
    for value in _family_identity(path / "config.json").values():
        digest.update(f"\0{value}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _family_identity(config: Path) -> dict[str, str]:
    """The distribution that a model's MLLM family comes from; empty for this project's."""
    if not config.is_file():
        return {}
    kind = str(json.loads(config.read_text(encoding="utf-8")).get("model_type"))
    return FAMILIES.origin(kind).identity if kind in FAMILIES.names() else {}


def fingerprints(space: Space, kept: Path | None = None, may_write: bool = True) -> dict[str, str]:
    """Checksums of models, texts, data set and benchmarks, by name, for `search_spaces.Stages`.

    Args:
        kept: directory of the checksums of data files, of which each is then read once; None reads
            all.
        may_write: whether it may be written.

    Raises:
        OSError, ValueError: a file that the space names is missing or cannot be read.
    """
    names = [*model_names(space), *text_files(space)]
    checksums = {name: fingerprint(name) for _, name in names}
    if space.data.uri is not None or space.benchmarks:
        checksums |= _data_fingerprints(space, kept, may_write)
    for environment in environments_of(space):
        checksums |= environment.versions(space)
    return checksums


def _data_fingerprints(space: Space, kept: Path | None, may_write: bool) -> dict[str, str]:
    from trainables.datasets.benchmarks.read import read_benchmark
    from trainables.datasets.images.checksums import PARTS, KeptChecksums, fingerprint_of_part
    from trainables.datasets.images.source import read_source

    of_files = KeptChecksums(kept, may_write)
    checksums = {
        f"benchmark {spec.label}": read_benchmark(spec).fingerprint(of_files)
        for spec in space.benchmarks
    }
    if space.data.uri is not None:
        source = read_source(space.data)
        checksums |= {f"{p} images": fingerprint_of_part(source, p, of_files) for p in PARTS}
    return checksums


def benchmark_images(benchmark: BenchmarkSpec) -> int:
    """Images of a benchmark, before any is found to be unreadable."""
    from trainables.datasets.benchmarks.read import read_benchmark

    return len({name for item in read_benchmark(benchmark).items for name in item.images})


def image_counts(data: DataSpec) -> dict[str, int]:
    """Images of train, val and test, before any is found to be unreadable."""
    if data.is_made:
        counts = {"train": data.train, "val": data.val, "test": data.test}
        return {split: count for split, count in counts.items() if count is not None}
    from trainables.datasets.images.source import read_source

    source = read_source(data)
    return {split: source.count(split) for split in source.index}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=_ROOT, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
