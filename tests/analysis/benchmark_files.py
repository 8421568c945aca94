"""Files as VLMEvalKit and lmms-eval write them, small."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RUN = "20260806_102223"


def vlmevalkit_table(*rows: dict[str, Any]) -> bytes:
    """A CSV as `dump` writes a frame: every value in quotes."""
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0], quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def lmms_content(
    results: Mapping[str, Mapping[str, Any]],
    better: Mapping[str, Mapping[str, bool | None]],
    **more: Any,
) -> dict[str, Any]:
    """The content of a results file, as `evaluate` and the tracker put it together.

    Args:
        results: task -> "metric,filter" -> value; standard errors are added.
        better: task -> metric -> `higher_is_better`.
        more: instead of or beside the other parts.
    """
    entries: dict[str, Any] = {}
    for task, values in results.items():
        entries[task] = {"alias": task}
        for name, value in values.items():
            metric, _, filter_name = name.rpartition(",")
            entries[task][name] = value
            entries[task][f"{metric}_stderr,{filter_name}"] = "N/A"
            entries[task][f"{metric}_stderr_clt,{filter_name}"] = 0.01
            entries[task][f"{metric}_stderr_clustered,{filter_name}"] = "N/A"
    tasks = [task for task in results if task in better]
    return {
        "results": entries,
        "group_subtasks": {task: [] for task in tasks},
        "configs": {t: {"task": t, "dataset_path": f"lab/{t}", "test_split": "val"} for t in tasks},
        "versions": dict.fromkeys(tasks, "Yaml"),
        "n-shot": dict.fromkeys(tasks, 0),
        "higher_is_better": {task: dict(names) for task, names in better.items()},
        "n-samples": {task: {"original": 5000, "effective": 4} for task in tasks},
        "config": {"model": "llava", "model_args": "pretrained=liuhaotian/llava-v1.5-7b"},
        "git_hash": "abc",
        "date": RUN,
        "task_hashes": {},
        "model_source": "llava",
        "model_name": "liuhaotian/llava-v1.5-7b",
        **more,
    }


def lmms_samples(*metrics: Mapping[str, Any]) -> bytes:
    """A line per sample, with the values of these metrics."""
    lines = [
        {
            "doc_id": number,
            "target": "yes",
            "filtered_resps": "Yes",
            "token_counts": [None],
            "doc_hash": f"{number:064x}",
            **values,
            "input": "Is it?",
        }
        for number, values in enumerate(metrics)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def write_lmms(
    directory: Path,
    content: Mapping[str, Any],
    samples: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> Path:
    """The results file, with samples of some tasks beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{RUN}_results.json"
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")
    for task, lines in (samples or {}).items():
        (directory / f"{RUN}_samples_{task}.jsonl").write_bytes(lmms_samples(*lines))
    return file


def write_vlmevalkit(directory: Path, model: str, **tables: dict[str, Any]) -> Path:
    """A directory of accuracies: benchmark -> the row about all samples."""
    directory.mkdir(parents=True, exist_ok=True)
    for benchmark, row in tables.items():
        file = directory / f"{model}_{benchmark}_acc.csv"
        file.write_bytes(vlmevalkit_table(row))
    return directory
