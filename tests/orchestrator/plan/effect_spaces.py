"""Small spaces whose settings are changed one at a time, and the data sets that they name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from search_spaces import Space, load_space
from tests.trainables.benchmark_files import write_pope
from tests.trainables.image_folders import write_folder

TRAINING = "steps: 8, batch_size: 4, validate_every: 4, lr_drop_at: 0.5"
MEAN = f"{{arch: mbt2018-mean, name: mean, N: 16, M: 32, lambdas: [0.02], train: {{{TRAINING}}}}}"
VBR = (
    "{arch: mbt2018-mean-vbr, name: vbr, N: 16, M: 32, rate_lambdas: [0.001, 0.01, 0.1],"
    f" qualities: [2, 3], train: {{{TRAINING}}}}}"
)
FAMILIES = [
    f"{{arch: {arch}, N: 16, M: 32, lambdas: [0.02], train: {{{TRAINING}}}{groups}}}"
    for arch, groups in (
        ("mbt2018-mean", ""),
        ("mbt2018", ""),
        ("bmshj2018-factorized", ""),
        ("tic", ""),
        ("elic2022-chandelier", ", groups: [8, 24]"),
    )
]
BASELINES = (
    "uncompressed, reconstruction, codec_tuned, downscale, adapted_encoder, post_processing,"
    " feature_coding, shared_neck, transfer, transfer_tuned, end_to_end_oracle"
)
TRAINED = ("d1", "d2", "d3", "post_processing", "adapted_encoder", "feature_coding", "transfer")
BASES: dict[str, list[str]] = {
    "scenes": [
        f"codecs=[{MEAN}, {VBR}]",
        "scenarios=[d1, d2, d3]",
        f"baselines=[{BASELINES}]",
        "classical=[{format: jpeg, qualities: [20]}]",
        "surrogate.phases=[{until: 0.5, ce: 1, distill: 1}, {until: 1, ce: 0, distill: 1}]",
        *(f"{key}={{{TRAINING}}}" for key in (*TRAINED, "end_to_end_oracle")),
        "post_processing.channels=8",
        "post_processing.levels=2",
        "d2.warmup_steps=2",
        "feature_coding.lambdas=[1.0]",
    ],
    "codecs": [
        f"codecs=[{', '.join(FAMILIES)}]",
        "scenarios=[]",
        "baselines=[reconstruction]",
    ],
    "folder": [
        "data={kind: folder, uri: FOLDER, size: 64, train: 5, val: 2, test: 3}",
        "tasks=[classification]",
        "mllms=[]",
        f"codecs=[{MEAN}]",
        "scenarios=[]",
        "baselines=[uncompressed, reconstruction]",
    ],
    "tabletop": [
        "data={kind: tabletop, train: 5, val: 2, test: 3}",
        "tasks=[counts]",
        f"codecs=[{MEAN}]",
        "scenarios=[]",
        "baselines=[uncompressed, reconstruction]",
    ],
    "table": [
        "data={kind: parquet, uri: TABLE, size: 64, train: 5, val: 2, test: 3}",
        "tasks=[classification]",
        "mllms=[]",
        f"codecs=[{MEAN}]",
        "scenarios=[]",
        "baselines=[uncompressed, reconstruction]",
    ],
    "released": [
        "codecs=[{arch: mbt2018-mean, name: mean, N: 16, M: 32, lambdas: [0.02], "
        "weights: FOLDER/a, train: {steps: 0}, released: {d1: [FOLDER/b]}}]",
        "scenarios=[d1]",
        "baselines=[reconstruction]",
    ],
    "benchmark": [
        "benchmarks=[{format: pope, annotations: POPE/coco_pope_random.json, "
        "images: POPE/val2014}]",
        "scenarios=[]",
        "baselines=[uncompressed]",
    ],
}


def base(name: str, root: Path, *overrides: str) -> Space:
    """A space of `BASES`, with its data set below a directory, and changed settings."""
    settings = [*BASES[name], *overrides]
    places = {name: root / name.lower() for name in ("FOLDER", "COPY", "TABLE", "NAMES")}
    for name, place in {**places, "POPE": root}.items():
        settings = [setting.replace(name, str(place)) for setting in settings]
    return load_space("smoke", settings)


def write_data(root: Path) -> None:
    """The data sets of the spaces."""
    counts = {"train/jay": 4, "train/fox": 4, "val/jay": 3, "test/jay": 4, "test/fox": 2}
    write_folder(root / "folder", counts)
    shutil.copytree(root / "folder", root / "copy", copy_function=shutil.copyfile)
    (root / "names").write_text("jay a bird\nfox a red fox\n")
    images = [file.read_bytes() for file in sorted((root / "folder").rglob("*.JPEG"))]
    columns = {"image": images, "other": images[::-1]}
    for column, values in (("label", ["jay", "fox", "owl"]), ("number", ["one", "two", "three"])):
        columns[column] = [values[number % 3] for number in range(len(images))]
    (root / "table").mkdir()
    pq.write_table(pa.table(columns), root / "table" / "all.parquet")
    (root / "folder" / "a").write_bytes(b"weights")
    (root / "folder" / "b").write_bytes(b"released")
    write_pope(root)
